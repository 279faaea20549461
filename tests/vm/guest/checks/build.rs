//! The builder on a stock kernel, with its store on ext4.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::place::{CGROUPS, Place, Ran, Setting, eventually};

/// A small Dockerfile is built, comes from the cache the second time, and its image runs.
pub(crate) fn build(place: &Place) -> Result<()> {
    let context = context(place, "context")?;
    // Real where there are subordinate ids, and root in its own namespace; else emulated, here on
    // a kernel without synchronous wake-ups.
    let owner = 33;
    place.write(
        &context.join("Dockerfile"),
        &format!(
            r#"FROM scratch
COPY busybox /bin/
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN echo written >/file && chown {owner}:{owner} /file && mkdir /old /old/inner
RUN ln -s file /link && chown -h {owner}:7 /link
USER 99
RUN ! chown 0 /file && ! echo more >>/file && test $(id -u) = 99
USER 0
RUN rm -r /old && mkdir /old && touch /old/new && id -u
CMD ["/bin/sh", "-c", "cat /file; stat -c %u:%g /file /link; ls /old"]
"#
        ),
    )?;
    let context = context.display().to_string();
    let build = [
        "sandcrab",
        "build",
        "--progress=plain",
        "--tag=stock",
        &context,
    ];
    place.run(&build)?.ok()?;
    place.run(&build)?.ok()?.says("CACHED")?;
    place
        .run(&["sandcrab", "run", "stock"])?
        .ok()?
        .prints(&format!("written\n{owner}:{owner}\n{owner}:7\nnew"))?;
    Ok(())
}

/// Makes a context with a busybox and no Dockerfile.
fn context(place: &Place, name: &str) -> Result<PathBuf> {
    let account = place.setting.account().name;
    let context = PathBuf::from(format!("/disk/{account}/{name}"));
    drop(fs::remove_dir_all(&context));
    fs::create_dir(&context)?;
    place.give(&context)?;
    fs::copy("/bin/busybox", context.join("busybox"))?;
    place.give(&context.join("busybox"))?;
    Ok(context)
}

/// Builds one step over busybox.
fn step(place: &Place, script: &str, flags: &[&str]) -> Result<Ran> {
    let context = context(place, place.name)?;
    let text = format!(
        "FROM scratch\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
         RUN {script}\n"
    );
    place.write(&context.join("Dockerfile"), &text)?;
    let context = context.display().to_string();
    let mut words = vec!["sandcrab", "build", "--progress=plain"];
    words.extend_from_slice(flags);
    words.push(&context);
    place.run(&words)
}

/// A step's group has the limits that were asked for, and is the root that the step sees.
pub(crate) fn build_limits(place: &Place) -> Result<()> {
    let parent = place.setting.group_for(place.name).context("a parent")?;
    let script = format!(
        "cat /proc/self/cgroup; cd /sys/fs/cgroup{parent}/sandcrab-step-* && \
         grep -H . memory.max memory.swap.max cpu.max cpuset.cpus"
    );
    let beneath = format!("--cgroup-parent={parent}");
    let flags = [
        &*beneath,
        "--memory=64m",
        "--memory-swap=96m",
        "--cpu-period=100000",
        "--cpu-quota=50000",
        "--cpuset-cpus=0",
    ];
    let ran = step(place, &script, &flags)?.ok()?;
    ensure!(!ran.err.contains("WARN"), "it warns: {}", ran.err);
    ran.says(" 0::/\n")?
        .says("memory.max:67108864")?
        .says("memory.swap.max:33554432")?
        .says("cpu.max:50000 100000")?
        .says("cpuset.cpus:0")?;
    let weight = format!("cat /sys/fs/cgroup{parent}/sandcrab-step-*/cpu.weight");
    // As runc has it since 2025: 1024 shares are the usual weight of 100.
    step(place, &weight, &[&beneath, "--cpu-shares=2048"])?
        .ok()?
        .says(" 174\n")?;
    fs::remove_dir(format!("{CGROUPS}{parent}")).context("remove the parent, which should be empty")
}

/// A step that wants more memory than it may have is killed, and the error says why.
pub(crate) fn build_memory(place: &Place) -> Result<()> {
    let flags = ["--memory=64m", "--memory-swap=64m"];
    let allocate = |size: &str| {
        let script = format!("exec dd if=/dev/zero of=/dev/null bs={size}M count=1");
        step(place, &script, &flags)
    };
    allocate("32")?.ok()?;
    allocate("128")?
        .fails()?
        .says("exit code: 137: the step exceeded the memory limit")?
        .says("--memory")?;
    // Somebody else of the step was killed, and it went on.
    let script = "dd if=/dev/zero of=/dev/null bs=128M count=1 || echo went on";
    step(place, script, &flags)?
        .ok()?
        .says("went on")?
        .says("it exceeded the memory limit")?;
    Ok(())
}

/// `--cgroup-parent` is where the group is made.
pub(crate) fn build_parent(place: &Place) -> Result<()> {
    let parent = place
        .setting
        .group_for("build-parent")
        .context("a parent")?;
    let script = format!("ls -d /sys/fs/cgroup{parent}/sandcrab-step-*");
    let flag = format!("--cgroup-parent={parent}");
    let ran = step(place, &script, &[&flag, "--memory=64m"])?.ok()?;
    ensure!(!ran.err.contains("WARN"), "it warns: {}", ran.err);
    let parent = format!("{CGROUPS}{parent}");
    let left: Vec<_> = fs::read_dir(&parent)?
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .collect();
    ensure!(left.is_empty(), "groups are left: {left:?}");
    fs::remove_dir(&parent).context("remove the parent")
}

/// A group whose build was killed goes with the next build.
pub(crate) fn build_killed(place: &Place) -> Result<()> {
    let parent = place
        .setting
        .group_for("build-killed")
        .context("a parent")?;
    let flags = [&*format!("--cgroup-parent={parent}"), "--memory=64m"];
    let parent = PathBuf::from(format!("{CGROUPS}{parent}"));
    let context = context(place, place.name)?;
    let text = "FROM scratch\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"sleep\", \"5050\"]\n";
    place.write(&context.join("Dockerfile"), text)?;
    let script = format!(
        "sandcrab build --progress=plain {} {} & \
         until ls -d {}/sandcrab-step-*; do sleep 0.1; done; kill -9 $!; wait $!",
        flags.join(" "),
        context.display(),
        parent.display()
    );
    place.run(&["sh", "-c", &script])?.exits(137)?;
    eventually("the step's end", || {
        let procs = fs::read_dir(&parent)?
            .flatten()
            .map(|entry| fs::read_to_string(entry.path().join("cgroup.procs")));
        Ok(procs.flatten().all(|procs| procs.is_empty()))
    })?;
    step(place, "true", &flags)?.ok()?;
    fs::remove_dir(&parent).context("remove the parent, which should be empty")
}

/// Limits where nothing is delegated: the build goes on, and one warning names them.
pub(crate) fn build_undelegated(place: &Place) -> Result<()> {
    let flags = ["--memory=64m", "--cpu-quota=50000", "--cpuset-cpus=0"];
    let ran = step(place, "echo still built", &flags)?.ok()?;
    ensure!(
        ran.err.matches("WARN").count() == 1,
        "warnings: {}",
        ran.err
    );
    ran.says("still built")?
        .says("--memory, --cpu-quota, --cpuset-cpus not enforced")?;
    let ran = step(
        place,
        "echo built again",
        &["--cgroup-parent=/user.slice/x"],
    )?
    .ok()?;
    ran.says("built again")?
        .says("--cgroup-parent not enforced")?;
    Ok(())
}

/// What `doctor` advises here is that everything is there.
pub(crate) fn doctor(place: &Place) -> Result<()> {
    let ran = place.run(&["sandcrab", "doctor"])?.ok()?;
    if place.setting == Setting::Subids {
        ran.says("subids")?;
    } else {
        ran.says("emulated")?;
    }
    Ok(())
}
