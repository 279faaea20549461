//! The many ways to name a file: links, `/proc`, another root, deleted directories, other mounts.

use support::{base, for_users};

use super::context;
use super::table::assert_printed;

for_users! {
    /// Whatever names it, it is the same file, and nothing is reached that the kernel wouldn't.
    fn ways_to_name(world) as [root, subids, plain] {
        let base = base!(world, Owners);
        context(world, &base, "RUN sh /probe/paths.sh\nRUN . /probe/lib.sh; say next $(own /etc/hosts) $(own /j/file) $(own /j/new)\n");
        assert_printed(world, "
            plain = 33:34:644 33:34:644 33:34:644 33:34:644 33:34:644 33:34:644 0:0:755 0:0:755
            links = ENOENT ENOENT ok 0:0:777 ok 35:36:644 ok
            trailing = ENOTDIR ENOTDIR ok 1:1:755 ok 0:0:755
            magic = 33:34:644 0:42:640 ok 40:41:644 ok 33:34:644
            handle = 33:34:644 ok 42:43:644 ok 33:34:644
            deleted = 0:0:644:0 ok 5:6:644:0 0:0:644
            lost-cwd = ENOENT ENOENT 33:34:644
            jail = 33:34:644 0:43:600 33:34:644 ok 0:0:777 ok ok 50:51:644 ok ok ok 8:9:644 ENOENT ENOENT 8:9:644
            jail-user = ok ok ok EACCES EACCES ok EACCES ok 33:34:644 ok 33:34:600 ok 33:34:644
            root-user = ok ok ok EACCES EACCES ENOENT
            kernel = ok ok ok ok ok ok ok EACCES ok EACCES ok 33:33:644 ok EACCES ok
            shm = ok 33:34:644 33:34:644 0:0:1777
            hosts = ok 33:34:644
            here = a document, from a pipe or a file without a name
            next = 0:0:644 33:34:600 8:9:644
        ");
    }
}
