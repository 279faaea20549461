# owners.sh TAG: owners by the shell's own tools. Makes /w/TAG.
. /probe/lib.sh
t=$1
d=/w/$t
mkdir -p $d
cd $d || exit 1

: >plain; chown 33:33 plain; say plain.$t $(own plain)
: >cleared; chmod 6755 cleared; chown 33 cleared; say cleared.$t $(own cleared)
: >kept; chmod 2644 kept; chown 33:33 kept; say kept.$t $(own kept)
mkdir dir; chmod 2775 dir; chown 0:8 dir; say dir.$t $(own dir)
ln -s plain link; chown -h 8:9 link; say link.$t $(own link) $(own plain)
mkfifo fifo; chown 1:2 fifo; say fifo.$t $(own fifo)
: >hard; ln hard hard2; chown 5:6 hard2; say hard.$t $(own hard) $(stat -c %h hard)
rm hard2; say unlinked.$t $(own hard)
: >before; chown 7:7 before; mv before after; say renamed.$t $(own after) $(own before)
: >over; : >target; chown 7:8 over; chown 9:9 target; mv -f over target; say over.$t $(own target)
ln -s x lbefore; chown -h 3:4 lbefore; mv lbefore lafter; say renamed-link.$t $(own lafter)
: >group; chgrp 42 group; chown 33 group; say group.$t $(own group)
: >back; chown 33:33 back; chown 0:0 back; say back.$t $(own back)
: >name; chown www-data:staff name; say name.$t $(stat -c %U:%G name)
: >big; chown 70000:70001 big 2>/dev/null; say big.$t $(own big)
: >huge; chown 4294967294:4294967294 huge 2>/dev/null; say huge.$t $(own huge)
mkdir bigdir; chown 70000:70000 bigdir 2>/dev/null; mkdir bigdir/in; say big-in.$t $(own bigdir) $(own bigdir/in)
mkdir -p tree/a/b; : >tree/a/b/f; ln -s /nowhere tree/a/l; mkfifo tree/p; chown -R 33:34 tree
say tree.$t $(own tree) $(own tree/a) $(own tree/a/b) $(own tree/a/b/f) $(own tree/a/l) $(own tree/p)
mkdir -m 2775 inherit; chown 0:33 inherit; chmod 2775 inherit
: >inherit/f; mkdir inherit/d; ln -s x inherit/l; mkfifo inherit/p
say inherit.$t $(own inherit/f) $(own inherit/d) $(own inherit/l) $(own inherit/p)
(umask 027; : >masked; mkdir masked-dir; say umask.$t $(own masked) $(own masked-dir))
say find.$t $(find . -user 33 -group 34 | sort)

# A number that was used before must not bring its owner back.
wrong=0
i=0
while [ $i -lt 100 ]; do
	: >again; chown 33:33 again; rm again; : >again; [ "$(own again)" = 0:0:644 ] || wrong=$((wrong + 1)); rm again
	ln -s a again; chown -h 33:33 again; rm again; ln -s a again; [ "$(own again)" = 0:0:777 ] || wrong=$((wrong + 1)); rm again
	mkfifo again; chown 33:33 again; rm again; mkfifo again; [ "$(own again)" = 0:0:644 ] || wrong=$((wrong + 1)); rm again
	mkdir again; chown 33:33 again; rmdir again; mkdir again; [ "$(own again)" = 0:0:755 ] || wrong=$((wrong + 1)); rmdir again
	ln -s a again; chown -h 33:33 again; ln -s b again2; mv again2 again; [ "$(own again)" = 0:0:777 ] || wrong=$((wrong + 1)); rm again
	i=$((i + 1))
done
say reused.$t $wrong

# The static program asks by every call.
for way in old-chown old-lchown chown lchown fchown chown-empty; do
	: >$way; say $way.$t $($p do $way:33:34:$way stat:$way $way:-1:35:$way stat:$way $way:36:-1:$way stat:$way $way:70000:1:$way stat:$way)
	ln -s $way link-$way
done
say through-link.$t $($p do chown:40:41:link-chown stat:link-chown stat:chown lchown:42:43:link-chown stat:link-chown chown-empty:44:45:link-fchown stat:link-fchown)
say nothing.$t $($p do chown:1:1:absent lchown:1:1:plain/x chown:1:1:)
say tmpfile.$t $($p do tmpfile:.:named stat:named)
say exchange.$t $($p do create:ea create:eb chown:1:1:ea chown:2:2:eb exchange:ea:eb stat:ea stat:eb)
for f in plain cleared dir link fifo hard after target tree/a/b inherit/d; do
	[ "$($p do stat:$f)" = "$(own $f)" ] || say differs.$t $f $($p do stat:$f)
done
