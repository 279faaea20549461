//! Many processes, and such that end at any moment.

use std::time::Duration;

use support::image::{flatten, node};
use support::{base, for_users};

use super::context;
use super::table::assert_output;

for_users! {
    /// Nobody gets somebody else's credentials or owner, and nothing hangs.
    fn processes(world) as [subids, plain] {
        let base = base!(world, Tools);
        context(world, &base, "RUN python3 /probe/storm.py\n");
        let output = world
            .build(["--network=none", "--output=type=oci,dest=built.oci"])
            .timeout(Duration::from_secs(180))
            .ok();
        assert_output(world, &output.stderr, "
            {crowd,short,threads} = 0
            killed = (33, 34)
            signals = ok EPERM ok
            files = True
        ");
        let tree = flatten(&world.image("built.oci")).unwrap();
        for number in [0, 77, 499] {
            let file = node(&tree, &format!("w/crowd/{number}"));
            assert_eq!((file.uid, file.gid), (number + 1, number + 1), "{number}");
        }
    }
}
