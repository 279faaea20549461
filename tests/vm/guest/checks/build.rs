//! The builder on a stock kernel, with its store on ext4.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::place::{Place, Setting};

/// A small Dockerfile is built, comes from the cache the second time, and its image runs.
pub(crate) fn build(place: &Place) -> Result<()> {
    let context = PathBuf::from(format!("/disk/{}/context", place.setting.account().name));
    drop(fs::remove_dir_all(&context));
    fs::create_dir(&context)?;
    place.give(&context)?;
    fs::copy("/bin/busybox", context.join("busybox"))?;
    place.give(&context.join("busybox"))?;
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
