//! Attacks by way of names of containers and of the state directory.

use std::os::unix::fs::PermissionsExt;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use support::for_users;

use crate::attempt::fails;
use crate::harness::bundle::runtime;
use crate::harness::{Bundle, assert_error};
use crate::race::while_exchanged;

for_users! {
    /// A container's name leads out of the state directory.
    fn id_leads_out(world) as [subids, plain] {
        fails(world, "Ids", |attempt| {
            let bundle = Bundle::with_script(world, "sleep 60");
            bundle.save();
            let id = format!("../{}-out", bundle.id());
            let create = attempt.command(&["create", "--bundle"]).arg(bundle.path("")).arg(&id);
            let (out, err) = (bundle.path("out"), bundle.path("err"));
            create.run_into(&out, &err);
            let made = world.path("state").join(&id).exists();
            attempt.command(&["delete", "--force", &id]).run();
            made
        });
    }

    /// Other names that are none.
    fn bad_ids(world) as [root, subids, plain] {
        let bundle = Bundle::new(world);
        bundle.save();
        let long = "x".repeat(4096);
        for id in ["", ".", "..", "a/b", "/etc", "../x", "a\nb", "ä", "a\u{1b}[2J", "~", "new~1", &long] {
            for verb in [&["create", "--bundle"][..], &["run", "--bundle"]] {
                let output = runtime(world, verb).arg(bundle.path("")).arg(id).run();
                assert!(!output.stderr.contains('\u{1b}'), "{:?}", output.stderr);
                assert_error(output, &["invalid container id"]);
            }
            for verb in ["state", "start", "kill", "delete"] {
                assert_error(runtime(world, [verb, id]).run(), &["invalid container id"]);
            }
        }
    }

    /// A state directory in which others may exchange what is ours.
    fn state_of_everybody(world) as [root, subids, plain] {
        let state = world.make_dir("state");
        fails(world, "State", |attempt| {
            std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).expect("chmod");
            let output = attempt.run(&Bundle::new(world));
            std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).expect("chmod");
            output.code == Some(0)
        });
    }

    /// What is in the state directory is a link: nothing behind it is read or removed.
    fn state_is_a_link(world) as [root, subids, plain] {
        world.make_dir("state");
        world.set_mode("state", 0o700);
        let elsewhere = world.write("elsewhere/state.json", "{}");
        world.link("state/linked", "../elsewhere");
        for verb in [&["state"][..], &["kill"], &["start"], &["delete", "--force"]] {
            runtime(world, verb).arg("linked").run();
        }
        assert!(elsewhere.exists());
        assert_eq!(runtime(world, ["list", "-q"]).ok().text(), "");
    }

    /// A configuration that is exchanged while it is read: a whole one is used, or none.
    fn configuration_changes(world) as [root, subids, plain] {
        let bundle = Bundle::with_script(world, "echo whole");
        bundle.save();
        bundle.write("other.json", "{\"ociVersion\": \"1.0.2\"");
        let (one, other) = (bundle.path("config.json"), bundle.path("other.json"));
        while_exchanged(&one, &other, || {
            for round in 0..20 {
                let id = format!("{}-{round}", bundle.id());
                let output = runtime(world, ["run", "--bundle"]).arg(bundle.path("")).arg(&id).run();
                match output.code {
                    Some(0) => assert_eq!(output.text(), "whole\n"),
                    _ => assert_error(output, &["config.json"]),
                }
            }
        });
        renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).expect("exchange");
    }
}
