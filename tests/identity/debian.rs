//! Programs of a distribution that read, write and insist on owners.

use support::image::{flatten, node};
use support::{base, for_users};

use super::context;
use super::table::{assert_output, assert_printed};

for_users! {
    /// Archivers, copiers, installers and the tools for accounts.
    fn tools(world) as [subids, plain] {
        let base = base!(world, Tools);
        context(world, &base, "RUN sh /probe/tools.sh\n");
        let all = "33:33:644 8:9:777 3:4:644 0:33:2775 33:34:4755 33:33:644 2";
        // Access control lists of other ids are a known shortcoming of emulated ids.
        assert_printed(world, &format!("
            made = {all}
            tar-list = -rw-r--r-- 33/33 lrwxrwxrwx 8/9
            {{tar,cp,rsync,bbcp,pytar}} = {all}
            bbtar = 33:33:644 0:0:777 3:4:644 0:33:2775 33:34:4755 33:33:644 2
            install = 33:34:4755
            install-d = 33:50:2770
            useradd = zed:zed zed:zed
            far = 70000:1001:far | 0:0:root
            su-zed = zed zed:zed in
            su-refused = 1
            chpasswd = 0 0:42:640
            usermod = zed crabs
            su-groups = zed crabs
            sg = crabs crabs
            traced = 33:34:644 1 33 0
            ambient = 1,1,1 ok 1:1:644 EACCES
            limit = (-1, -1) (100, 200)
            group-reads = yes no
            statoverride = 33:50:2750
            find = ./d ./f ./h ./installed ./installed-dir ./s
            ls = -rwsr-xr-x 33 34 www-data backup
            test = owner writes not unread
            ps = www-data sleep 1
            acl = 0 | 1
            mktemp = 33:600 33:700
        "));
    }

    /// A package that makes a group and a program of it, installed by apt, which itself drops to a
    /// user of its own and makes sure that there is no way back.
    fn packages(world) as [subids, plain] {
        let base = base!(world, Debian);
        context(world, &base, "RUN apt-get update && apt-get install -y --no-install-recommends openssh-client gosu\n\
            RUN . /probe/lib.sh; say agent $(stat -c %U:%G:%a /usr/bin/ssh-agent); say partial $(stat -c %U:%a /var/lib/apt/lists/partial /var/cache/apt/archives/partial | tr '\\n' ' '); \
            say shadow $(own /etc/shadow) $(own /var/mail); say gosu $(gosu www-data $p do ids setuid:0) $(gosu 12:34 id -u) $(gosu www-data gosu root true 2>/dev/null || echo refused); say audit $(dpkg --audit | wc -l)\n");
        let output = world.build(["--network=host", "--output=type=oci,dest=built.oci"]).ok();
        assert_output(world, &output.stderr, "
            agent = root:_ssh:2755
            partial = _apt:700 _apt:700
            shadow = 0:42:640 0:8:2775
            gosu = 33,33,33/33,33,33/ EPERM 12 refused
            audit = 0
        ");
        output.never_says(&["W: Download is performed unsandboxed", "Could not set", "Operation not permitted", "setgroups"]);
        let tree = flatten(&world.image("built.oci")).unwrap();
        let agent = node(&tree, "usr/bin/ssh-agent");
        assert_eq!((agent.uid, agent.mode), (0, 0o2755));
        assert_ne!(agent.gid, 0);
        assert_eq!(node(&tree, "etc/shadow").gid, 42);
    }
}
