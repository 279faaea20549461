//! Set-user-id and set-group-id programs, and those with capabilities.

use support::{base, for_users};

use super::context;
use super::table::assert_printed;

for_users! {
    /// They take effect as the kernel has it, whoever starts them.
    fn programs(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        context(world, &base, "RUN sh /probe/setid.sh\nUSER app\nRUN echo next=$(/s/both do ids)\n");
        let app = "33,50,1001";
        let all = "a80425fb";
        assert_printed(world, &format!("
            root.root = 0,0,0/0,0,0/0 {all},{all},0
            root.www = 0,33,33/0,0,0/0 0,{all},0
            root.group = 0,0,0/0,42,42/0 {all},{all},0
            root.both = 0,33,33/0,42,42/0 0,{all},0
            root.closed = 0,0,0/0,0,0/0 {all},{all},0
            root.big = 0,70000,70000/0,70000,70000/0 0,{all},0 | 0,0,0/0,0,0/0 {all},{all},0
            root.plain = 0,0,0/0,0,0/0 {all},{all},0
            app.root = 1000,0,0/1001,1001,1001/{app} {all},{all},0 1000,0,0,0/1001,1001,1001,1001/{app}
            app.www = 1000,33,33/1001,1001,1001/{app} 0,0,0 1000,33,33,33/1001,1001,1001,1001/{app}
            app.group = 1000,1000,1000/1001,42,42/{app} 0,0,0 1000,1000,1000,1000/1001,42,42,42/{app}
            app.both = 1000,33,33/1001,42,42/{app} 0,0,0 1000,33,33,33/1001,42,42,42/{app}
            app.closed = 1000,0,0/1001,1001,1001/{app} {all},{all},0 1000,0,0,0/1001,1001,1001,1001/{app}
            app.big = 1000,70000,70000/1001,70000,70000/{app} 0,0,0 1000,70000,70000,70000/1001,70000,70000,70000/{app} | 1000,0,0/1001,0,0/{app} {all},{all},0 1000,0,0,0/1001,0,0,0/{app}
            app.plain = 1000,1000,1000/1001,1001,1001/{app} 0,0,0 1000,1000,1000,1000/1001,1001,1001,1001/{app}
            app.script = 1000
            app.denied = EACCES EPERM ok 1000,1000,33/1001,1001,1001/{app}
            app.group-reads = ok
            app.root-reads = ok ok 33,33,33/1001,1001,1001/{app} EPERM
            app.real = EACCES ok EACCES ok
            app.no-new-privs = 1000,1000,1000/1001,1001,1001/{app} 0,0,0
            app.regained = ok 33,1000,1000/1001,1001,1001/{app} ok 1000,33,33/1001,1001,1001/{app}
            app.child = 33,33,33/1001,1001,1001/{app} ok 33:1001:644
            app.lost-on-exec = 1000,33,33/1001,1001,1001/{app}
            changed = 1000:33:755 1000,1000,1000/1001,1001,1001/{app}
            app.links = 0 0
            app.copy = 0:0:4755 0
            app.moved = 0
            app.by-handle = 0
            next = 1000,33,33/1001,42,42/{app}
        "));
    }
}
