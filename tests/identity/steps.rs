//! From one step to the next, through the cache, and into another stage.

use support::image::{Options, assert_same};
use support::progress::{assert_all_cached, steps};
use support::{base, for_users};

use super::context;
use super::owners::OWNERS;
use super::table::assert_output;

/// Shows again what `owners.sh t` left, in its words.
const AGAIN: &str = ". /probe/lib.sh; cd /w/t; for f in plain cleared kept dir fifo target group back huge; do n=$f; [ $f != target ] || n=over; say $n.t $(own $f); done; \
    say link.t $(own link) $(own plain); say hard.t $(own hard) 2; say renamed.t $(own after) $(own before); say renamed-link.t $(own lafter); say big.t $(own big); \
    say inherit.t $(own inherit/f) $(own inherit/d) $(own inherit/l) $(own inherit/p); \
    say tree.t $(own tree) $(own tree/a) $(own tree/a/b) $(own tree/a/b/f) $(own tree/a/l) $(own tree/p)";

/// The rows of `OWNERS` that `AGAIN` shows.
fn wanted() -> String {
    let shown = [
        "plain",
        "cleared",
        "kept",
        "dir",
        "fifo",
        "over",
        "group",
        "back",
        "huge",
        "link",
        "hard",
        "renamed",
        "renamed-link",
        "big",
        "inherit",
        "tree",
    ];
    let rows: Vec<String> = OWNERS
        .lines()
        .filter(|line| {
            shown
                .iter()
                .any(|name| line.trim().starts_with(&format!("{name}.T ")))
        })
        .map(|line| line.replace(".T ", ".t "))
        .collect();
    assert_eq!(rows.len(), shown.len());
    rows.join("\n")
}

for_users! {
    /// The next step, a step on a cached one, another build on it, and another stage all agree.
    fn agree(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        let first = "RUN sh /probe/owners.sh t >/dev/null\nRUN ln -s x /w/t/more; chown -h 12:13 /w/t/more; rm /w/t/hard2 2>/dev/null; true\n";
        context(world, &base, &format!("{first}RUN {AGAIN}\n"));
        let output = world.build(["--network=none"]).ok();
        assert_output(world, &output.stderr, &wanted());
        // A hit, then a new step on a hit.
        let output = world.build(["--network=none"]).ok();
        assert_all_cached(&output.stderr, 4);
        context(world, &base, &format!("{first}RUN {AGAIN}; say more $(own /w/t/more)\n"));
        let output = world.build(["--network=none"]).ok();
        assert_eq!(steps(&output.stderr).iter().filter(|step| step.cached).count(), 3, "{}", output.stderr);
        assert_output(world, &output.stderr, &format!("{}\nmore = 12:13:777", wanted()));
        // Another stage that copies it, by a step that reads it.
        context(world, &base, &format!("{first}FROM {base}\nCOPY --from=0 / /\nRUN {AGAIN}\n"));
        let output = world.build(["--network=none"]).ok();
        assert_output(world, &output.stderr, &wanted());
    }

    /// What was built from the cache, without it, and in a store that has only the layers is the
    /// same, entry for entry.
    fn same_layers(world) as [root, subids, plain] {
        let base = base!(world, Layered);
        context(world, &base, "RUN sh /probe/owners.sh t >/dev/null\nRUN sh /probe/become.sh static >/dev/null; chown -R 44:44 /data\nRUN mv /data /moved; rm -r /w/t/tree\n");
        let first = world.built(["--network=none"]);
        let tree = support::image::flatten(&first).unwrap();
        let entry = tree.get(std::path::Path::new("moved/linked")).expect("a moved file");
        assert_eq!((entry.uid, entry.gid), (44, 44));
        world.build(["--network=none", "--output=type=oci,dest=hit.oci"]).ok();
        world.build(["--network=none", "--no-cache", "--output=type=oci,dest=fresh.oci"]).ok();
        for other in ["hit.oci", "fresh.oci"] {
            let options = Options::standard();
            assert_same(&first, &world.image(other), &options);
        }
    }
}
