//! What `prune` takes and leaves, and what `df` says about it.
//!
//! Responsible for limits, filters and the order by last use. Must not test what a kill leaves:
//! that is `crash`.

use std::time::{Duration, SystemTime};

use support::progress::{assert_all_cached, steps};
use support::{World, base, for_users};

/// Makes everything that the cache remembers this much older.
fn age(world: &World, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    for directory in ["cache/steps", "cache/stat", "cache/downloads"] {
        let list = std::fs::read_dir(world.store().join(directory));
        for entry in list.into_iter().flatten().flatten() {
            let file = std::fs::File::open(entry.path()).unwrap();
            file.set_modified(then).unwrap();
        }
    }
}

/// A Dockerfile with one step that makes three megabytes, and another one.
fn dockerfile(world: &World, base: &str, name: &str) -> String {
    let file = format!("ctx/{name}");
    world.write(
        &file,
        format!("FROM {base}\nRUN head -c 3000000 /dev/urandom >/{name}\nRUN echo {name} >/name\n"),
    );
    format!("--file={file}")
}

/// One kind's line of `df`.
fn line(world: &World, kind: &str) -> serde_json::Value {
    let text = world.sandcrab(["df", "--format=json"]).ok().text();
    let mut lines = text
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    lines
        .find(|line| line["Type"] == kind)
        .unwrap_or_else(|| panic!("no {kind}: {text}"))
}

for_users! {
    /// A limit takes what was used least recently, no more; a dry run takes nothing.
    fn least_recently_used(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let (old, new) = (dockerfile(world, &base, "old"), dockerfile(world, &base, "new"));
        world.build([old.as_str()]).ok();
        age(world, 30);
        world.build([new.as_str()]).ok();
        let before = support::store::size(&world.store());
        let limit = "--keep-storage=9m";
        let planned = world.sandcrab(["prune", "--dry-run", limit]).ok().text();
        assert!(planned.contains("head -c 3000000") && planned.contains("Would remove blobs"), "{planned}");
        assert!(!planned.contains("/new"), "{planned}");
        assert_eq!(support::store::size(&world.store()), before);
        let pruned = world.sandcrab(["prune", "--force", "--verbose", limit]).ok().text();
        assert!(pruned.contains("Removed blobs") && !pruned.contains("/new"), "{pruned}");
        assert!(support::store::size(&world.store()) + 3_000_000 <= before, "{pruned}");
        support::store::assert_pruned(&world.store());
        assert_all_cached(&world.build([new.as_str()]).ok().stderr, 2);
        let again = steps(&world.build([old.as_str()]).ok().stderr);
        assert!(again.iter().any(|step| !step.cached), "{again:?}");
        // The other names and limits of buildx.
        let text = world.sandcrab(["prune", "--force", "--reserved-space=1g", "--max-used-space=1k"]).ok().text();
        assert!(text.contains("reclaimed space: "), "{text}");
        assert_all_cached(&world.build([new.as_str()]).ok().stderr, 2);
        world.sandcrab(["prune", "--force", "--min-free-space=100000t"]).ok();
        let again = steps(&world.build([new.as_str()]).ok().stderr);
        assert!(again.iter().all(|step| !step.cached), "{again:?}");
    }

    /// Filters choose by age, kind and id; what they can't mean is refused by name.
    fn filters(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let old = dockerfile(world, &base, "old");
        world.build([old.as_str()]).ok();
        age(world, 30);
        world.write("ctx/mount", format!("FROM {base}\nRUN --mount=type=cache,id=kept,target=/c echo x >>/c/x\n"));
        world.build(["--file=ctx/mount"]).ok();
        let listed = world.sandcrab(["df", "-v", "--format=json"]).ok().text();
        let entries: Vec<serde_json::Value> = listed.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let of = |kind: &str| entries.iter().filter(|e| e["Type"] == kind).count();
        assert_eq!((of("regular"), of("exec.cachemount")), (3, 1), "{listed}");
        assert!(world.sandcrab(["df", "-v"]).ok().text().contains("kept"));
        let id = entries.iter().find(|e| e["Description"].as_str().unwrap().contains("echo old")).unwrap();
        let filter = format!("--filter=id={}", &id["ID"].as_str().unwrap()[..12]);
        let text = world.sandcrab(["prune", "--force", "-v", &filter]).ok().text();
        assert!(text.contains("echo old") && text.contains("cache records: 1"), "{text}");
        let text = world.sandcrab(["prune", "--force", "--verbose", "--filter=until=24h"]).ok().text();
        assert!(text.contains("head -c") && !text.contains("kept"), "{text}");
        assert_eq!(line(world, "Cache mounts")["TotalCount"], 1);
        assert_all_cached(&world.build(["--file=ctx/mount"]).ok().stderr, 1);
        world.sandcrab(["prune", "--force", "--filter=type=exec.cachemount"]).ok();
        assert_eq!(line(world, "Cache mounts")["TotalCount"], 0);
        assert_all_cached(&world.build(["--file=ctx/mount"]).ok().stderr, 1);
        for (filter, said) in [
            ("type=frontend", "frontend"), ("inuse", "inuse"), ("label=x", "label=x"), ("until=soon", "soon"),
        ] {
            let filter = format!("--filter={filter}");
            world.sandcrab(["prune", "--force", &filter]).run().exits(2).says(&[said, "hint:"]);
        }
        world.sandcrab(["prune", "--force", "--max-used-space=much"]).run().exits(2).says(&["--max-used-space", "much"]);
    }

    /// What a base that is named by digest alone gives is kept with the steps on it, also without the
    /// registry; the steps are forgotten, and it goes.
    fn base_by_digest(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.sandcrab(["pull", "--quiet", &base]).ok();
        let inspected: serde_json::Value =
            serde_json::from_str(&world.sandcrab(["inspect", &base]).ok().text()).unwrap();
        let pinned = inspected[0]["RepoDigests"][0].as_str().unwrap().to_owned();
        world.sandcrab(["rmi", &base]).ok();
        world.sandcrab(["prune", "--all", "--force"]).ok();
        world.write("ctx/f", "f");
        world.dockerfile(&format!(
            "FROM {pinned} AS one\nRUN echo x >/x\nFROM scratch\nCOPY --from={pinned} /bin/busybox /\nCOPY --from=one /x /\n"
        ));
        world.build([]).ok();
        world.sandcrab(["prune", "--force"]).ok();
        support::store::assert_pruned(&world.store());
        assert_all_cached(&world.build(["--pull=never"]).ok().stderr, 3);
        // Not the cached results alone are there: so is what new steps stand on.
        world.dockerfile(&format!("FROM {pinned} AS one\nRUN echo new >/x\n"));
        world.build(["--pull=never"]).ok();
        world.sandcrab(["prune", "--force", "--filter=type=regular"]).ok();
        world.build(["--pull=never"]).run().exits(1).says(&["not in the store"]);
        support::store::assert_empty(&world.store());
    }

    /// Each kind has a line, and what a running build has is not reclaimable.
    fn usage(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        world.write("ctx/f", "f");
        let marker = format!("8181.{}{}", std::process::id(), world.account.uid);
        world.dockerfile(&format!(
            "FROM {base}\nCOPY f /\nRUN --mount=type=cache,target=/c head -c 100000 /dev/urandom >/c/x\n\
             RUN echo now waiting; sleep {marker}\n"
        ));
        let mut build = world.build([]).spawn();
        build.wait_for(" now waiting");
        assert_eq!(line(world, "Work in progress")["Active"], 1);
        assert_eq!(line(world, "Work in progress")["Reclaimable"], 0);
        assert!(line(world, "Cache mounts")["Size"].as_u64().unwrap() >= 100_000);
        // And prune leaves it alone.
        let pruned = world.sandcrab(["prune", "--all", "--force"]).ok();
        assert!(pruned.stderr.contains("builds are running"), "{}", pruned.all());
        build.signal(rustix::process::Signal::INT);
        build.wait().exits(130);
        assert_eq!(line(world, "Work in progress")["TotalCount"], 0);
        assert_eq!(line(world, "Leftovers")["TotalCount"], 0);
        assert_eq!(line(world, "Images")["Active"], 1);
        assert_eq!(line(world, "Cached steps")["TotalCount"], 2);
        assert!(line(world, "Layers")["Reclaimable"].as_u64().unwrap() > 0);
    }

    /// Cache mounts outlive `--no-cache` and `prune`, and take no more than was asked for: those that were
    /// used least recently go, whatever owner and mode their files have; one that a step has stays.
    fn cache_mount_space(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        let mount = |id: &str| {
            world.write(
                &format!("ctx/{id}"),
                format!(
                    "FROM {base}\nRUN --mount=type=cache,id={id},target=/c mkdir -p /c/d && echo x >>/c/log && \
                     head -c 2000000 /dev/urandom >/c/d/big && chown -R 3:4 /c/d && chmod 700 /c/d && wc -l </c/log\n"
                ),
            );
            let file = format!("--file=ctx/{id}");
            move |arguments: &[&str]| world.build(["--no-cache", file.as_str()]).args(arguments).ok()
        };
        let (one, two, three) = (mount("one"), mount("two"), mount("three"));
        one(&[]);
        let output = two(&["--cache-mount-space=5m"]);
        output.says(&[]).never_says(&["was removed"]);
        assert!(line(world, "Cache mounts")["Size"].as_u64().unwrap() >= 4_000_000);
        world.sandcrab(["prune", "--force"]).ok();
        assert!(one(&[]).stderr.contains(" 2\n"), "a cache mount outlives prune");
        let output = three(&["--cache-mount-space=5m"]);
        assert!(output.stderr.contains("cache mount `") && output.stderr.contains("two`"), "{}", output.stderr);
        assert_eq!(line(world, "Cache mounts")["TotalCount"], 2);
        support::store::assert_pruned(&world.store());
        // While one is in use, another build leaves it alone.
        let marker = format!("8282.{}{}", std::process::id(), world.account.uid);
        world.write("ctx/busy", format!(
            "FROM {base}\nRUN --mount=type=cache,id=one,target=/c echo now waiting; sleep {marker} || wc -l </c/log\n"
        ));
        let mut busy = world.build(["--file=ctx/busy"]).spawn();
        busy.wait_for(" now waiting");
        let file = "--file=ctx/three";
        world.build(["--no-cache", file]).env("SANDCRAB_CACHE_MOUNT_SPACE", "1k").ok().says(&["three` ("]);
        assert_eq!(line(world, "Cache mounts")["TotalCount"], 1);
        busy.signal(rustix::process::Signal::INT);
        busy.wait().exits(130);
        // prune has the same by filter and limit.
        let text = world
            .sandcrab(["prune", "--force", "-v", "--filter=type=exec.cachemount", "--max-used-space=1k"])
            .ok().text();
        assert!(text.contains("cache mounts: 1") && text.contains("one"), "{text}");
        world.build(["--cache-mount-space=lots", file]).run().exits(2).says(&["--cache-mount-space", "lots"]);
    }
}
