//! Base images: their layers are fetched when something needs the files.

use support::for_users;
use support::image::{Options, assert_same};

use super::registry;

for_users! {
    /// An image that only passes through is neither fetched nor unpacked, and pushed by mounting.
    fn passes_through(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "through") else { return };
        let layers = registry.layers("busybox", "1");
        world.dockerfile(&format!("FROM {base}\nENV a=b\nLABEL c=d\n"));
        let name = format!("{}/copy:1", registry.host());
        let before = registry.requests().len();
        world.build(["-t", &name, "--push"]).ok();
        let fetched = registry.fetched(before);
        assert!(!fetched.iter().any(|f| layers.contains(f)), "{fetched:?}");
        assert_eq!(registry.layers("copy", "1"), layers);
        let requests = registry.requests();
        assert!(requests.iter().any(|r| r.contains("/copy/") && r.contains("mount=")), "{requests:?}");
        let snapshots = std::fs::read_dir(world.store().join("snapshots")).map_or(0, Iterator::count);
        assert_eq!(snapshots, 0);

        // Once it is needed, it is fetched, and once only.
        let before = registry.requests().len();
        world.sandcrab(["run", &name, "cat", "/proc/version"]).ok();
        world.sandcrab(["save", "-o", "saved.tar", &name]).ok();
        let mut fetched = registry.fetched(before);
        fetched.retain(|f| layers.contains(f));
        assert_eq!(fetched, layers);
        let saved = world.image("saved.tar");
        world.build(["-o", "type=oci,dest=built.oci"]).ok();
        assert_same(&saved, &world.image("built.oci"), &Options::standard());
    }

    /// A name in the store whose layers are elsewhere can be saved, and survives a collector.
    fn saved_later(world) as [subids, plain] {
        let Some((registry, base)) = registry(world, "later") else { return };
        let layers = registry.layers("busybox", "1");
        world.dockerfile(&format!("FROM {base}\nENV a=b\n"));
        world.build(["-t", "later"]).ok();
        world.sandcrab(["prune", "--all", "--force"]).ok();
        world.sandcrab(["df"]).ok();
        let before = registry.requests().len();
        world.sandcrab(["save", "-o", "saved.tar", "later"]).ok();
        assert_eq!(registry.fetched(before), layers);
        assert_eq!(world.image("saved.tar").layer_count(), layers.len());
    }

    /// A layer that has vanished from the registry is named, with the image that needs it.
    fn vanished(world) as [root, subids, plain] {
        let Some((registry, base)) = registry(world, "vanished") else { return };
        let layers = registry.layers("busybox", "1");
        world.dockerfile(&format!("FROM {base}\nENV a=b\n"));
        world.build(["-t", "later"]).ok();
        let hex = layers[0].trim_start_matches("sha256:");
        std::fs::remove_file(registry.blob(hex)).unwrap();
        world
            .sandcrab(["run", "later", "true"])
            .run()
            .exits(1)
            .says(&["get layer", &layers[0]]);
        world.sandcrab(["save", "-o", "saved.tar", "later"]).run().exits(1).says(&[&layers[0]]);
        assert!(!world.path("saved.tar").exists());
        support::store::assert_clean(&world.store());
    }
}
