//! What the black-box tests and the benchmarks share: accounts to run as, peers to compare with,
//! base images, a registry, and a comparer of images.
//!
//! Responsible for the world around the programs under test. Must not use their libraries: what
//! is tested is only reached through its command line and the files it writes. Invariant: nothing
//! here makes a check pass because a tool is absent; what can't be run is said with [`skip`].
//!
//! Set-up that goes wrong panics: in a test that is the report.

pub mod base;
pub mod content;
pub mod git;
pub mod hash;
pub mod http;
pub mod image;
pub mod layer;
pub mod peers;
pub mod process;
pub mod progress;
pub mod registry;
pub mod scratch;
pub mod ssh;
pub mod store;
pub mod terminal;
pub mod user;
pub mod world;

pub use base::Base;
pub use process::{Command, Output, Running};
pub use registry::Registry;
pub use terminal::Terminal;
pub use user::User;
pub use world::World;

/// Says that a test, or a part of it, could not be run, and why. The test run counts these lines.
#[expect(
    clippy::print_stdout,
    reason = "captured by the test harness, and counted"
)]
pub fn skip(test: &str, why: &str) {
    println!("SKIP: {why} ({test})");
}

/// Runs a function as a test in each of the named accounts: `root`, `subids`, `plain`.
///
/// ```text
/// for_users! {
///     /// What must hold.
///     fn name(world) as [root, subids, plain] { … }
/// }
/// ```
#[macro_export]
macro_rules! for_users {
    ($($(#[$doc:meta])* fn $name:ident($world:ident) as [$($user:ident),+ $(,)?] $body:block)+) => {
        $(
            $(#[$doc])*
            mod $name {
                #[allow(unused_imports, reason = "a body needs few of its file's names")]
                use super::*;

                fn body($world: &$crate::World) $body

                $(
                    #[test]
                    fn $user() {
                        let test = concat!(module_path!(), "::", stringify!($user));
                        let user = $crate::User::named(stringify!($user));
                        if let Some(world) = $crate::World::new(user, test) {
                            body(&world);
                        }
                    }
                )+
            }
        )+
    };
}
