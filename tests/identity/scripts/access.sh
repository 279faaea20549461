# access.sh: what others may do with files; made by root, tried by www-data and app.
. /probe/lib.sh
mkdir /a
cd /a || exit 1
chmod 755 /a
for owner in 0:0 33:33 1000:1001 0:50 0:33; do
	n=$(echo $owner | tr : -)
	for mode in 600 640 644 666 060 006; do : >f-$n-$mode; chown $owner f-$n-$mode; chmod $mode f-$n-$mode; done
	for mode in 700 750 755 770 1777 711 070; do mkdir d-$n-$mode; : >d-$n-$mode/in; chmod 666 d-$n-$mode/in; chown $owner d-$n-$mode; chmod $mode d-$n-$mode; done
	for mode in 700 750 711; do cp /probe/p x-$n-$mode; chown $owner x-$n-$mode; chmod $mode x-$n-$mode; done
done
mkdir sticky; chmod 1777 sticky; : >sticky/roots; : >sticky/www; chown 33:33 sticky/www; : >sticky/app; chown 1000:1001 sticky/app
mkdir own; chown 33:33 own; : >own/roots; mkdir own/rootdir; : >own/rootdir/in; mkdir own/empty
mkdir deep; mkdir deep/closed; : >deep/closed/in; chmod 777 deep/closed; chmod 700 deep; ln -s deep/closed/in into
ln -s f-33-33-600 to-own; ln -s f-0-0-600 to-root

# as USER TAG OPERATION…
as_www() { $p do setgroups:33 setgid:33 setuid:33 -- $p do "$@"; }
as_app() { $p do setgroups:33,50,1001 setgid:1001 setuid:1000 -- $p do "$@"; }

for who in www app; do
	for n in 0-0 33-33 1000-1001 0-50 0-33; do
		for mode in 600 640 644 666 060 006; do f=f-$n-$mode
			say $who.$n.$mode $(as_$who read:$f write:$f access:4:$f access:2:$f eaccess:6:$f stat:$f truncate:$f)
		done
		for mode in 700 750 755 770 1777 711 070; do d=d-$n-$mode
			say $who.dir.$n.$mode $(as_$who list:$d access:1:$d stat:$d/in read:$d/in create:$d/new-$who chdir:$d)
		done
		for mode in 700 750 711; do x=x-$n-$mode; say $who.exec.$n.$mode $(as_$who exec:./$x access:1:$x read:$x); done
	done
done
say own.www $(as_www chmod:600:f-33-33-644 stat:f-33-33-644 touch:f-33-33-644 date:f-33-33-644 setxattr:f-33-33-644 chown:33:33:f-33-33-644 chown:34:-1:f-33-33-644 chown:-1:34:f-33-33-644 chown:0:0:f-33-33-644 lchown:33:33:to-own)
say others.www $(as_www chmod:666:f-0-0-666 fchmod:666:f-0-0-666 touch:f-0-0-666 date:f-0-0-666 touch:f-0-0-644 setxattr:f-0-0-644 setxattr:f-0-0-666 chown:33:33:f-0-0-666 lchown:33:33:to-root)
say groups.app $(as_app chown:-1:50:f-1000-1001-644 chown:-1:42:f-1000-1001-644 chown:-1:33:f-1000-1001-644 stat:f-1000-1001-644)
say set-id.app $(as_app chmod:6755:f-1000-1001-666 stat:f-1000-1001-666 chown:-1:50:f-1000-1001-666 stat:f-1000-1001-666)
: >sg; chown 1000:42 sg
say set-gid-lost.app $(as_app chmod:2755:sg stat:sg)
cp /probe/p written; chown 33:33 written; chmod 6777 written
say write-clears.app $(as_app write:written truncate:written) $(own written)
say sticky.app $(as_app unlink:sticky/roots unlink:sticky/www rename:sticky/www:sticky/w2 rename:sticky/app:sticky/roots rename:sticky/app:sticky/app2 unlink:sticky/app2 create:sticky/mine stat:sticky/mine)
say own-directory.www $(as_www unlink:own/roots rename:own/rootdir:own/renamed unlink:own/renamed/in rmdir:own/renamed rmdir:own/empty mkdir:own/m stat:own/m symlink:x:own/s stat:own/s fifo:own/p stat:own/p link:f-33-33-666:own/l stat:own/l bind:own/sock stat:own/sock)
say closed.www $(as_www stat:deep/closed/in read:deep/closed/in read:into access:4:into stat:into create:deep/closed/new mkdir:deep/closed/d unlink:deep/closed/in rename:own/m:deep/closed/m link:f-33-33-666:deep/closed/l chdir:deep/closed opath:deep/closed)
say root-only.www $(as_www unlink:f-33-33-600 create:new mkdir:new symlink:x:new rename:f-33-33-600:new link:f-33-33-600:new fifo:new rmdir:d-33-33-700 bind:new)
say links.www $(as_www read:to-own read:to-root write:to-root link:f-0-0-666:own/l0 stat:own/l0)
say hard-links.www $(as_www link:f-0-0-600:own/stolen link:into:own/l1 link:x-0-0-711:own/l2 link:f-33-33-060:own/l3)
say devices.www $(as_www character:1:3:own/null block:7:0:own/loop node:own/plain stat:own/plain)
say tmpfile.www $(as_www open2:own/o2 stat:own/o2 tmpfile:d-0-0-755:own/t)
say absent.www $(as_www read:absent read:f-33-33-600/x stat:absent/x read:deep/absent create:absent/x unlink:absent)
say root $($p do read:f-1000-1001-600 write:f-33-33-060 list:d-33-33-700 read:d-33-33-070/in create:d-1000-1001-700/by-root stat:d-1000-1001-700/by-root unlink:sticky/app unlink:sticky/www exec:./f-33-33-644 access:1:f-33-33-644 access:1:x-33-33-711 read:deep/closed/in)
say inherited.www $(mkdir -m 2777 sgd; chown 0:50 sgd; chmod 2777 sgd; as_www create:sgd/f stat:sgd/f mkdir:sgd/d stat:sgd/d symlink:x:sgd/l stat:sgd/l fifo:sgd/p stat:sgd/p open2:sgd/o stat:sgd/o)
