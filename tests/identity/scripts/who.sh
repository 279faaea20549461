# who.sh TAG: who one is, by everything that tells it, and what one may do.
. /probe/lib.sh
t=$1
say ids.$t $($p do ids)
say status.$t $($p do status)
say shell.$t $(grep -E '^(Uid|Gid|Groups):' /proc/$$/status | cut -f2- | tr '\t' ,)
say id.$t $(id -u) $(id -ru) $(id -g) $(id -rg) $(id -G | tr ' ' '\n' | sort -n)
say proc.$t $(stat -c %u:%g /proc/$$ /proc/self/ /proc/$$/status)
say caps.$t $($p do caps) $(grep -E '^Cap(Prm|Eff)' /proc/self/status | cut -f2)
say back.$t $($p do setuid:0 setgid:0 setreuid:-1:0 setresuid:0:0:0 setgroups:0 ids)
: >/tmp/made-$t; mkdir /tmp/dir-$t; ln -s x /tmp/link-$t; mkfifo /tmp/fifo-$t
say made.$t $(own /tmp/made-$t) $(own /tmp/dir-$t) $(own /tmp/link-$t) $(own /tmp/fifo-$t)
say denied.$t $($p do read:/etc/shadow chown:33:33:/etc/passwd chmod:777:/etc/passwd write:/etc/passwd create:/etc/new kill:1)
command -v procps-ps >/dev/null && say ps.$t $(procps-ps -o uid=,ruid=,suid=,gid=,rgid=,sgid=,user= -p $$)
command -v python3 >/dev/null && say python.$t $(python3 -c 'import os; print(os.getresuid(), os.getresgid(), sorted(os.getgroups()))')
command -v perl >/dev/null && say perl.$t $(perl -e 'print "$< $> ", join(" ", (split " ", $()[0], (split " ", $))[0])')
true
