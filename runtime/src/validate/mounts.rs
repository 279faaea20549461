//! `mounts` (config.md, "Mounts") and id maps.
//!
//! Responsible for what goes with what. Options that are no names of the runtime's are the file
//! system's, and only the kernel knows them. Invariant: as for its parent module.

use std::path::Path;

use super::Report;
use super::document::{check_text, no_nul};
use crate::path::normalize;
use crate::rootfs::options::Options;
use crate::spec::{IdMapping, Mount};

pub(super) fn check(mount: &Mount, user_namespace: bool, report: &mut Report) {
    check_text("destination", &mount.destination, report);
    check_text("type", &mount.kind, report);
    check_text("source", &mount.source, report);
    report.each("options", &mount.options, |report, option| {
        no_nul(option, report);
    });
    let (uids, gids) = (&mount.uid_mappings, &mount.gid_mappings);
    check_mappings("uidMappings", uids, report);
    check_mappings("gidMappings", gids, report);
    if uids.is_empty() != gids.is_empty() {
        let missing = if uids.is_empty() {
            "uidMappings"
        } else {
            "gidMappings"
        };
        report.add_at(missing, "is required, since the other mapping is there");
    }
    // An option that can't be read was reported above.
    let Ok(options) = Options::parse(&mount.options) else {
        return;
    };
    // A relative one counts from `/`, "for compatibility with old tools" (config.md, "Mounts").
    if mount.destination.is_empty() {
        report.add_at("destination", "is required");
    } else if normalize(Path::new(&mount.destination)) == Path::new("/") && !options.remount {
        report.add_at("destination", "the root itself can't be mounted over");
    }
    let bind = options.bind.is_some() || mount.kind == "bind";
    if bind {
        if mount.source.is_empty() && !options.remount {
            report.add_at("source", "is required for a bind mount");
        }
    } else if mount.kind.is_empty() && !options.remount {
        report.add_at("type", "is required, unless `bind` is an option");
    }
    if options.copy_up && mount.kind != "tmpfs" {
        report.add_at("options", "`tmpcopyup` is for tmpfs only");
    }
    if !bind && (options.copy_symlink || options.source_nofollow) {
        report.add_at(
            "options",
            "`copy-symlink` and `src-nofollow` are for bind mounts only",
        );
    }
    let mapped = options.id_map.is_some() || !uids.is_empty() || !gids.is_empty();
    if mapped && !bind {
        report.add_at("options", "ids can be mapped in bind mounts only");
    }
    let own = options.id_map_text.is_some() || !uids.is_empty() || !gids.is_empty();
    if mapped && !own && !user_namespace {
        report.add_at(
            "options",
            "an id-mapped mount needs mappings, its own or a user namespace's",
        );
    }
}

/// Both sides of a map, user_namespaces(7) "Defining user and group ID mappings".
pub(super) fn check_mappings(name: &str, list: &[IdMapping], report: &mut Report) {
    /// `UID_GID_MAP_MAX_EXTENTS`, Linux 4.15.
    const MOST: usize = 340;
    if list.len() > MOST {
        report.add_at(name, format!("has more than {MOST} lines"));
        return;
    }
    let end = |first: u32, size: u32| u64::from(first) + u64::from(size);
    let overlap = |a: (u32, u32), b: (u32, u32)| {
        u64::from(a.0) < end(b.0, b.1) && u64::from(b.0) < end(a.0, a.1)
    };
    let mut earlier: Vec<&IdMapping> = Vec::new();
    report.each(name, list, |report, line| {
        if line.size == 0 {
            report.add_at("size", "is 0");
        }
        for (field, first) in [("containerID", line.container_id), ("hostID", line.host_id)] {
            if end(first, line.size) > u64::from(u32::MAX) {
                report.add_at(field, "the range goes beyond the last id");
            }
        }
        for other in &earlier {
            let inside = |l: &IdMapping| (l.container_id, l.size);
            let outside = |l: &IdMapping| (l.host_id, l.size);
            if overlap(inside(line), inside(other)) {
                report.add_at("containerID", "the range overlaps an earlier one");
                break;
            }
            if overlap(outside(line), outside(other)) {
                report.add_at("hostID", "the range overlaps an earlier one");
                break;
            }
        }
        earlier.push(line);
    });
}
