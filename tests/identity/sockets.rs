//! Sockets of the Unix kind.

use support::{base, for_users};

use super::context;
use super::table::assert_printed;

for_users! {
    /// Their files have owners, and each end knows who the other is.
    fn owners_and_peers(world) as [subids, plain] {
        let base = base!(world, Tools);
        context(world, &base, "RUN python3 /probe/sockets.py\nRUN . /probe/lib.sh; say next $(own /w/root) $(own /tmp/www)\n");
        // What messages say is a known shortcoming of emulated ids.
        assert_printed(world, "
            bound = 0:0:755
            mode = Permission denied
            opened = ok
            peer = 33:33
            given = 33:34:600
            owner = ok
            peer-owner = 33:33
            other = Permission denied
            server = 0:0
            user = 33:33:755 33:33:660 Operation not permitted Permission denied 33:33 33:33 33:33 33:33
            message-root = 0:0 0:0 0:0 Invalid argument | 0:0 0:0 0:0 8:8
            message-user = 0:0 Invalid argument 0:0 Invalid argument | 33:33 33:33 Operation not permitted Operation not permitted
            gone = Permission denied 33:33:660
            static = ok 0:0:755 ECONNREFUSED
            next = 33:34:600 33:33:660
        ");
    }
}
