//! Platforms: steps for another processor, and images for several.

use support::progress::steps;
use support::{World, base, for_users, need};

/// The number of AArch64 in an ELF file's header, elf(5).
const AARCH64: [u8; 2] = [183, 0];

/// Expects that a file of the account's is a program for AArch64.
fn is_foreign(world: &World, path: &str) {
    let bytes = std::fs::read(world.path(path)).expect("a program");
    assert_eq!(
        (&bytes[..4], &bytes[18..20]),
        (&b"\x7fELF"[..], &AARCH64[..])
    );
}

for_users! {
    /// Steps run whatever processor their programs are for: static and dynamic ones, scripts, what
    /// they start, and as whichever user. Nothing of how that is done is seen inside.
    fn a_step_for_another_platform(world) as [root, subids, plain] {
        need!(world, "qemu-aarch64-static");
        let base = base!(world, Platforms);
        world.dockerfile(&format!(
            "FROM {base}\n\
             RUN uname -m && cp /bin/busybox /program\n\
             RUN [\"/bin/dash\", \"-c\", \"echo $0; printf '#!/bin/dash\\\\necho script' >/s; chmod +x /s; /s\", \"zero\"]\n\
             RUN [\"/bin/busybox\", \"sh\", \"-c\", \"exec -a other /bin/busybox 2>&1 | head -n 1\"]\n\
             USER app\n\
             RUN id -u\n\
             USER root\n\
             RUN chown mail /program; stat -c %U /program\n\
             RUN ls /proc/sys/fs/binfmt_misc; grep -c binfmt /proc/mounts; ls /proc/$$/fd | wc -l\n"
        ));
        let output = world.build(["--platform=linux/arm64", "--output=out"]).ok();
        let lines: Vec<String> =
            steps(&output.stderr).into_iter().flat_map(|step| step.lines).collect();
        let other = "other: applet not found";
        assert_eq!(lines, ["aarch64", "zero", "script", other, "1000", "mail", "0", "3"]);
        is_foreign(world, "out/program");
    }
}
