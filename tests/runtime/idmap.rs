//! User namespaces with maps, and id-mapped mounts.

use std::os::unix::fs::{MetadataExt, chown};

use serde_json::json;
use support::{User, for_users};

use crate::harness::bundle::range;
use crate::harness::under_test::kind;
use crate::harness::{Bundle, Crun, Runc, Sandcrab, assert_error, differs};

for_users! {
    /// Root gives a container a map; ids in there are others outside.
    fn root_with_a_map(world) as [root] {
        let mut bundle = Bundle::new(world);
        bundle.namespace("user", Some(json!({"type": "user"})));
        for map in ["uidMappings", "gidMappings"] {
            bundle.set(&format!("/linux/{map}"), json!([{"containerID": 0, "hostID": 300_000, "size": 1000}, {"containerID": 1000, "hostID": 400_000, "size": 2000}]));
        }
        let status = std::process::Command::new("chown").arg("-R").arg("300000:300000").arg(bundle.inside("")).status().unwrap();
        assert!(status.success());
        let lines = bundle.prints("cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /file; chown 1001:1002 /file; stat -c %u:%g /file");
        let map: Vec<Vec<&str>> = lines[..4].iter().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(map, [["0", "300000", "1000"], ["1000", "400000", "2000"], ["0", "300000", "1000"], ["1000", "400000", "2000"]]);
        assert_eq!(lines[4..], ["0", "1001:1002"]);
        let metadata = std::fs::metadata(bundle.inside("file")).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (400_001, 400_002));
        // Its processes have these ids, too.
        let container = bundle.script("echo ready; sleep 100").start();
        container.wait_for("ready");
        let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid())).unwrap();
        assert!(status.lines().any(|line| line.starts_with("Uid:\t300000\t")), "{status}");
        assert_eq!(container.sh("id -u"), "0\n");
    }

    /// A user's range by newuidmap and newgidmap.
    fn subordinate_ids(world) as [subids] {
        let (first, count) = range(world);
        let mut bundle = Bundle::new(world);
        let lines = bundle.prints("cat /proc/self/uid_map; touch /file; chown 33:42 /file; cat /proc/self/setgroups");
        let map: Vec<Vec<String>> = lines[..2].iter().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        assert_eq!(map[0], ["0".to_owned(), world.account.uid.to_string(), "1".to_owned()]);
        assert_eq!(map[1], ["1".to_owned(), first.to_string(), count.to_string()]);
        assert_eq!(lines[2], "allow");
        let metadata = std::fs::metadata(bundle.inside("file")).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (first + 32, first + 41));
    }

    /// A single id: setgroups is denied, as the kernel demands.
    fn single_id(world) as [plain, subids] {
        let mut bundle = Bundle::new(world);
        for (map, id) in [("uidMappings", world.account.uid), ("gidMappings", world.account.gid)] {
            bundle.set(&format!("/linux/{map}"), json!([{"containerID": 0, "hostID": id, "size": 1}]));
        }
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        for mount in mounts {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
        let lines = bundle.prints("cat /proc/self/uid_map; cat /proc/self/setgroups");
        let map: Vec<&str> = lines[0].split_whitespace().collect();
        assert_eq!(map, ["0", &world.account.uid.to_string(), "1"]);
        if kind() != Crun {
            // crun 1.8.1 has newgidmap write even one line where it is there.
            assert_eq!(lines[1], "deny");
        }
    }

    /// The container's id need not be 0.
    fn another_id(world) as [plain] {
        let mut bundle = Bundle::new(world);
        for (map, id) in [("uidMappings", world.account.uid), ("gidMappings", world.account.gid)] {
            bundle.set(&format!("/linux/{map}"), json!([{"containerID": 1000, "hostID": id, "size": 1}]));
        }
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        if differs(world, &[(Runc, "wants root in the namespace"), (Crun, "wants root in the namespace")]) {
            return;
        }
        let output = bundle.script("id -u; id -g").run();
        if output.code == Some(0) {
            assert_eq!(output.text(), "1000\n1000\n");
        } else {
            assert_error(output, &["map", "user"]);
        }
    }

    /// Ids that the user doesn't have are refused, in words of the map.
    fn foreign_ids(world) as [subids, plain] {
        let mut bundle = Bundle::new(world);
        for map in ["uidMappings", "gidMappings"] {
            bundle.set(&format!("/linux/{map}"), json!([{"containerID": 0, "hostID": world.account.uid, "size": 1}, {"containerID": 1, "hostID": 1, "size": 10}]));
        }
        assert_error(bundle.run(), &["newuidmap", "uid", "map"]);
        world.assert_nothing_left(bundle.id());
    }

    /// Maps without a namespace, and a namespace without maps.
    fn maps_and_namespace(world) as [root, plain] {
        let mut bundle = Bundle::new(world);
        bundle.namespace("user", None);
        for map in ["uidMappings", "gidMappings"] {
            bundle.set(&format!("/linux/{map}"), json!([{"containerID": 0, "hostID": 1000, "size": 1}]));
        }
        if kind() == Sandcrab || (kind() == Runc && world.user != User::Root) {
            // runc 1.1.5 takes them when it is root, crun 1.8.1 always.
            assert_error(bundle.run(), &["map", "user namespace"]);
        }
        bundle.namespace("user", Some(json!({"type": "user"})));
        for map in ["uidMappings", "gidMappings"] {
            bundle.config["linux"].as_object_mut().unwrap().remove(map);
        }
        if kind() != Crun {
            assert_error(bundle.run(), &["map"]);
        }
    }

    /// Maps that overlap or are empty are refused.
    fn bad_maps(world) as [root] {
        let mut bundle = Bundle::new(world);
        bundle.namespace("user", Some(json!({"type": "user"})));
        for map in [
            json!([{"containerID": 0, "hostID": 300_000, "size": 0}]),
            json!([{"containerID": 0, "hostID": 300_000, "size": 10}, {"containerID": 5, "hostID": 400_000, "size": 10}]),
        ] {
            bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
            assert_error(bundle.run(), &["map"]);
        }
    }

    /// An id-mapped bind: files of one id outside have another inside.
    fn mapped_mount(world) as [root] {
        if differs(world, &[(Runc, "1.1.5 has no id-mapped mounts"), (Crun, "1.8.1 wants a user namespace for it")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.write("data/file", "x");
        bundle.write("data/deep/file", "x");
        for file in ["data/file", "data/deep/file"] {
            chown(bundle.path(file), Some(1000), Some(1000)).unwrap();
        }
        let source = bundle.path("data");
        let map = json!([{"containerID": 1000, "hostID": 2000, "size": 1}, {"containerID": 0, "hostID": 0, "size": 1}]);
        for (place, option) in [("/mapped", "idmap"), ("/recursive", "ridmap")] {
            bundle.push("/mounts", json!({
                "destination": place, "type": "bind", "source": source, "options": ["rbind", option],
                "uidMappings": map, "gidMappings": map
            }));
        }
        let lines = bundle.prints("stat -c %u:%g /mapped/file /recursive/deep/file; touch /mapped/new; stat -c %u /mapped/new");
        assert_eq!(lines, ["2000:2000", "2000:2000", "0"]);
        assert_eq!(std::fs::metadata(bundle.path("data/new")).unwrap().uid(), 0);
    }

    /// With a user namespace the option alone means the container's map.
    fn mapped_by_the_container(world) as [root] {
        if differs(world, &[(Runc, "1.1.5 has no id-mapped mounts"), (Crun, "1.8.1 has it in words of its own")]) {
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.namespace("user", Some(json!({"type": "user"})));
        let map = json!([{"containerID": 0, "hostID": 300_000, "size": 65536}]);
        bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        let status = std::process::Command::new("chown").arg("-R").arg("300000:300000").arg(bundle.inside("")).status().unwrap();
        assert!(status.success());
        bundle.write("data/file", "x");
        chown(bundle.path("data/file"), Some(1000), Some(1001)).unwrap();
        let source = bundle.path("data");
        bundle.push("/mounts", json!({"destination": "/mapped", "type": "bind", "source": source, "options": ["bind", "idmap"]}));
        bundle.push("/mounts", json!({"destination": "/plain", "type": "bind", "source": source, "options": ["bind"]}));
        let lines = bundle.prints("stat -c %u:%g /mapped/file /plain/file; touch /mapped/new && echo made");
        assert_eq!(lines, ["1000:1001", "65534:65534", "made"]);
        assert_eq!(std::fs::metadata(bundle.path("data/new")).unwrap().uid(), 0);
    }

    /// An ordinary user can't have one on a file system of the host; it is refused by name.
    fn mapped_mount_rootless(world) as [subids, plain] {
        if kind() != Sandcrab {
            support::skip(&world.test, "this runtime has other words");
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.make_dir("data");
        let source = bundle.path("data");
        let map = json!([{"containerID": 0, "hostID": world.account.uid, "size": 1}]);
        bundle.push("/mounts", json!({
            "destination": "/mapped", "type": "bind", "source": source, "options": ["bind", "idmap"],
            "uidMappings": map, "gidMappings": map
        }));
        let output = bundle.run();
        if output.code != Some(0) {
            assert_error(output, &["id-mapped", "idmap", "id map"]);
        }
    }

    /// Maps of a mount without an option to say so, and the other way round.
    fn bad_mapped_mounts(world) as [root, plain] {
        if kind() != Sandcrab {
            support::skip(&world.test, "this runtime has other words");
            return;
        }
        let mut bundle = Bundle::new(world);
        bundle.make_dir("data");
        let source = bundle.path("data");
        let map = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
        bundle.push("/mounts", json!({"destination": "/mapped", "type": "bind", "source": source, "options": ["bind", "idmap"], "uidMappings": map}));
        assert_error(bundle.run(), &["gidmappings"]);
    }

    /// The root keeps its owners for ids that the container has.
    fn owners_of_the_root(world) as [root, subids] {
        let mut bundle = Bundle::new(world);
        bundle.write("rootfs/owned", "x");
        if world.user == User::Subids {
            let (first, _) = range(world);
            chown(bundle.inside("owned"), Some(first + 99), Some(first + 99)).unwrap();
        } else {
            chown(bundle.inside("owned"), Some(100), Some(100)).unwrap();
        }
        assert_eq!(bundle.prints("stat -c %u:%g /owned"), ["100:100"]);
    }
}
