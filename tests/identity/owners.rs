//! Owners: what a base image has, and what `chown` and its kin leave behind.

use support::{base, for_users};

use super::context;
use super::table::assert_printed;

/// What `owners.sh` prints, for each of its tags.
pub(super) const OWNERS: &str = "
    plain.T = 33:33:644
    cleared.T = 33:0:755
    kept.T = 33:33:2644
    dir.T = 0:8:2775
    link.T = 8:9:777 33:33:644
    fifo.T = 1:2:644
    hard.T = 5:6:644 2
    unlinked.T = 5:6:644
    renamed.T = 7:7:644 none
    over.T = 7:8:644
    renamed-link.T = 3:4:777
    group.T = 33:42:644
    back.T = 0:0:644
    name.T = www-data:staff
    big.T = 70000:70001:644 | 0:0:644
    huge.T = 4294967294:4294967294:644 | 0:0:644
    big-in.T = 70000:70000:755 0:0:755 | 0:0:755 0:0:755
    tree.T = 33:34:755 33:34:755 33:34:755 33:34:644 33:34:777 33:34:644
    inherit.T = 0:33:644 0:33:2755 0:33:777 0:33:644
    umask.T = 0:0:640 0:0:750
    find.T = ./tree ./tree/a ./tree/a/b ./tree/a/b/f ./tree/a/l ./tree/p
    reused.T = 0
    {old-chown,old-lchown,chown,lchown,fchown,chown-empty}.T = ok 33:34:644 ok 33:35:644 ok 36:35:644 ok 70000:1:644 | ok 33:34:644 ok 33:35:644 ok 36:35:644 EINVAL 36:35:644
    through-link.T = ok 0:0:777 40:41:644 ok 42:43:777 ok 44:45:777
    nothing.T = ENOENT ENOTDIR ENOENT
    tmpfile.T = ok 33:34:640
    exchange.T = ok ok ok ok ok 2:2:644 1:1:644
";

/// What a base's files look like, by the shell and by every call.
const BASE: &str = "f=\"/etc/shadow /var/mail /home/app /home/app/.profile /var/www /usr/bin/setuid \
    /usr/bin/setgid /var/nobody /bin/sh /\"; . /probe/lib.sh; \
    for i in $f; do n=$(echo $1$i | tr /A-Z .a-z); say $n $(own $i); $p views $i | sed s,.*\\ ,$n.all=,; done";

for_users! {
    /// Owners and set-id bits of the base image, in the first step and in those after it.
    fn base_image(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        context(world, &base, &format!(
            "RUN set -- one; {BASE}\nRUN set -- two; {BASE}\nRUN echo >>/etc/shadow; echo >>/home/app/.profile; \
             mv /var/nobody /var/moved; ln /home/app/.profile /linked; chmod 2770 /var/mail; . /probe/lib.sh; \
             for i in /etc/shadow /home/app/.profile /var/moved /linked /var/mail; do say up$(echo $i | tr / .) $(own $i); done\n"
        ));
        assert_printed(world, "
            {one,two}.etc.shadow{,.all} = 0:42:640
            {one,two}.var.mail{,.all} = 0:8:2775
            {one,two}.home.app{,.all} = 1000:1001:750
            {one,two}.home.app..profile{,.all} = 1000:1001:644
            {one,two}.var.www{,.all} = 33:33:755
            {one,two}.usr.bin.setuid{,.all} = 0:0:4755
            {one,two}.usr.bin.setgid{,.all} = 0:42:2755
            {one,two}.var.nobody{,.all} = 65534:65534:600
            {one,two}.bin.sh{,.all} = 0:0:777
            {one,two}.{,.all} = 0:0:755
            up.etc.shadow = 0:42:640
            {up.home.app..profile,up.linked} = 1000:1001:644
            up.var.moved = 65534:65534:600
            up.var.mail = 0:8:2770
        ");
    }

    /// Everything that changes an owner or must keep one, by static programs.
    fn busybox(world) as [root, subids, plain] {
        let base = base!(world, Busybox);
        context(world, &base, "RUN sh /probe/owners.sh busybox\n");
        assert_printed(world, &OWNERS.replace(".T ", ".busybox "));
    }

    /// The same by dynamic programs, with Python and Perl, each of which sees what the others made.
    fn debian(world) as [subids, plain] {
        let base = base!(world, Tools);
        context(world, &base,
            "RUN sh /probe/owners.sh dash\n\
             RUN mkdir /applets && busybox --install -s /applets && PATH=/applets busybox sh /probe/owners.sh static\n\
             RUN bash /probe/owners.sh bash\n\
             RUN python3 /probe/owners.py; perl /probe/owners.pl\n");
        let mut table = String::from("
            python.{own,sees-dash} = 33:34:644 8:9:777 5:6:644 70000:70000:644 | 33:34:644 8:9:777 5:6:644 0:0:644
            perl.{own,sees-dash,sees-python} = 33:34:644 8:9:777 5:6:644 70000:70000:644 | 33:34:644 8:9:777 5:6:644 0:0:644
        ");
        for tag in ["dash", "static", "bash"] {
            table.push_str(&OWNERS.replace(".T ", &format!(".{tag} ")));
        }
        assert_printed(world, &table);
    }

    /// Two names of one file in a lower layer: what a change of one does to the other.
    fn lower_hard_links(world) as [root, subids, plain] {
        let base = base!(world, Layered);
        context(world, &base, "RUN . /probe/lib.sh; cd /data; say before $(own original) $(own linked) $(own pipe) $(own opaque) $(own .); \
            chown 1:2 linked; say after $(own original) $(own linked); chown 3:4 pipe becomes-real opaque; say more $(own pipe) $(own becomes-real) $(own opaque); \
            ln original third; chown 5:6 third; say third $(own original) $(own third); mv pipe moved; rm linked; : >linked; say new $(own moved) $(own linked)\n\
            RUN . /probe/lib.sh; cd /data; say next $(own original) $(own third) $(own moved) $(own linked) $(own opaque)\n");
        assert_printed(world, "
            before = 33:33:640 33:33:640 0:8:620 0:0:700 0:50:755
            after = 33:33:640 1:2:640
            more = 3:4:620 3:4:644 3:4:700
            third = 5:6:640 5:6:640
            new = 3:4:620 0:0:644
            next = 5:6:640 5:6:640 3:4:620 0:0:644 3:4:700
        ");
    }
}
