# paths.sh: the many ways to name a file.
. /probe/lib.sh
mkdir -p /j/etc /j/dir /j/tmp; chmod 1777 /j/tmp; cp $p /j/p
: >/j/file; chown 33:34 /j/file; : >/j/etc/shadow; chown 0:43 /j/etc/shadow; chmod 600 /j/etc/shadow
ln -s /file /j/absolute; ln -s ../../../file /j/dir/up; ln -s /etc/shadow /j/dir/shadow; ln -s /j/file /outside
cd /j || exit 1
say plain $($p do stat:file stat:/j/file stat://j//file stat:/j/./dir/../file stat:../j/file stat:/../../j/file stat:dir/ stat:dir/.)
say links $($p do read:absolute read:dir/up read:/outside stat:absolute chown:35:36:/outside stat:file chown:33:34:file)
say trailing $($p do stat:file/ chown:1:1:file/ chown:1:1:dir/ stat:dir chown:0:0:dir/. stat:dir)
say magic $($p do stat:/proc/self/cwd/file stat:/proc/self/root/etc/shadow chown:40:41:/proc/self/cwd/file stat:file chown:33:34:/proc/self/root/j/file stat:file)
exec 3<file; say handle $(stat -L -c %u:%g:%a /proc/self/fd/3) $($p do chown:42:43:/proc/self/fd/3 stat:file chown:33:34:/dev/fd/3 stat:file); exec 3<&-
say deleted $(exec 3<>gone; rm gone; stat -L -c %u:%g:%a:%h /proc/self/fd/3; $p do chown:5:6:/proc/self/fd/3; stat -L -c %u:%g:%a:%h /proc/self/fd/3; : >gone; own gone)
say lost-cwd $(mkdir d2; cd d2; rmdir ../d2; $p do stat:file create:file stat:/j/file)
jail='chroot /j'
say jail $($jail /p do stat:/file stat:/etc/shadow stat:/../file read:/absolute stat:/absolute read:/dir/up chown:50:51:/absolute stat:/file chown:33:34:/file create:/new chown:8:9:/new stat:/new stat:/j/file stat:/probe/p) $(own new)
say jail-user $($jail /p do setgroups:34 setgid:34 setuid:33 read:/etc/shadow read:/dir/shadow write:/file create:/new2 create:/tmp/f stat:/tmp/f chmod:600:/file stat:/file chown:33:34:/tmp/f) $(own tmp/f)
say root-user $($p do setgroups:34 setgid:34 setuid:33 read:/j/dir/shadow read:dir/shadow write:dir/up)
say kernel $($p do chown:33:33:/proc/self/status setgid:33 setuid:33 write:/dev/null read:/dev/zero write:/dev/full read:/proc/self/status read:/proc/1/environ read:/sys/kernel/uevent_seqnum create:/dev/x create:/dev/shm/f stat:/dev/shm/f read:/etc/resolv.conf write:/etc/resolv.conf list:/proc/self/fd)
: >/dev/shm/g; say shm $($p do chown:33:34:/dev/shm/g stat:/dev/shm/g) $(own /dev/shm/g) $(own /dev/shm)
say hosts $($p do chown:33:34:/etc/hosts) $(own /etc/hosts)
say here $(cat <<HERE
a document, from a pipe or a file without a name
HERE
)
