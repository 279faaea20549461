//! What an ordinary user's containers can and can't have.

use anyhow::{Result, ensure};
use serde_json::json;

use super::Skipped;
use crate::bundle::{Container, runtime};
use crate::place::{CGROUPS, FIRST_SUBID, Place};

/// A configuration that asks for no group runs wherever the caller is.
pub(crate) fn no_group(place: &Place) -> Result<()> {
    let mut container = Container::shell(place, "hostname")?;
    container.without_group();
    container.run()?.ok()?.prints("guest")?;
    Ok(())
}

/// Limits where nothing is delegated: the container runs without them, and the runtime says so.
pub(crate) fn limits_undelegated(place: &Place) -> Result<()> {
    let mut container = Container::shell(place, "hostname")?;
    container.set("/linux/resources/pids", json!({ "limit": 20 }));
    let ran = container.run()?;
    if runtime() != "sandcrab-oci" {
        return Err(Skipped("runc fails, and crun says nothing".to_owned()).into());
    }
    ran.ok()?.prints("guest")?.says("not enforced")?;
    Ok(())
}

/// The ids of a user namespace are those that were asked for.
pub(crate) fn id_maps(place: &Place) -> Result<()> {
    let account = place.setting.account();
    let script = "id -u; cat /proc/self/uid_map | tr -s ' '; cat /proc/self/setgroups;
        touch /tmp/file; chown 1000 /tmp/file; stat -c %u /tmp/file";
    let container = Container::shell(place, script)?;
    let ran = container.run()?;
    let mut lines = vec!["0".to_owned(), format!(" 0 {} 1", account.uid)];
    if account.subids {
        lines.push(format!(" 1 {FIRST_SUBID} 65536"));
        lines.extend(["allow", "1000"].map(str::to_owned));
        ran.ok()?.prints(&lines.join("\n"))?;
    } else {
        lines.extend(["deny", "0"].map(str::to_owned));
        ran.prints(&lines.join("\n"))?.says("Invalid argument")?;
    }

    let mut container =
        Container::shell(place, "id -u; id -g; cat /proc/self/status | grep CapEff")?;
    container.set("/process/user", json!({ "uid": 5, "gid": 6 }));
    let ran = container.run()?;
    if account.subids {
        let ran = ran.ok()?;
        ensure!(ran.out.starts_with("5\n6\n"), "ids: {}", ran.out);
    } else {
        ran.fails()?;
    }
    Ok(())
}

/// A group is made beside the caller's when the configuration names none, and holds the limits.
pub(crate) fn group_beside(place: &Place) -> Result<()> {
    if runtime() != "sandcrab-oci" {
        return Err(Skipped("others choose otherwise".to_owned()).into());
    }
    let mut container = Container::shell(place, "exec sleep 1000")?;
    container.without_group();
    container.set("/linux/resources/pids", json!({ "limit": 23 }));
    container.run_detached()?.ok()?;
    let group = container.group()?;
    group.says("pids.max", 23)?;
    let own = place.setting.group();
    let beside = own.rsplit_once('/').map_or("", |(parent, _)| parent);
    ensure!(
        group.0.starts_with(format!("{CGROUPS}{beside}")),
        "it is {group:?}"
    );
    container
        .verb(&["delete", "--force", &container.id])?
        .ok()?;
    ensure!(!group.exists(), "the group {group:?} is there");
    Ok(())
}
