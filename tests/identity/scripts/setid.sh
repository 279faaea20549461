# setid.sh: programs that run as somebody else.
. /probe/lib.sh
mkdir /s
cd /s || exit 1
for spec in root:0:0:4755 www:33:33:4755 group:0:42:2755 both:33:42:6755 closed:0:33:4750 big:70000:70000:6755 plain:33:33:755; do
	n=${spec%%:*}; rest=${spec#*:}; mode=${rest##*:}
	cp $p $n; chown ${rest%:*} $n 2>/dev/null; chmod $mode $n
done
printf '#!/bin/sh\nid -u\n' >script; chown 33:33 script; chmod 6755 script
cp $p bind; [ -x /sbin/setcap ] && /sbin/setcap cap_net_bind_service=ep bind
app="$p do setgroups:33,50,1001 setgid:1001 setuid:1000 --"
for n in root www group both closed big plain; do
	say root.$n $(./$n do ids caps)
	say app.$n $($app ./$n do ids caps status)
done
say app.script $($app ./script)
say app.denied $($app ./www do read:/etc/shadow setuid:0 setuid:1000 ids)
say app.group-reads $($app ./group do read:/etc/shadow)
say app.root-reads $($app ./root do read:/etc/shadow setuid:33 ids setuid:0)
say app.real $($app ./root do access:4:/etc/shadow eaccess:4:/etc/shadow access:2:/s/closed eaccess:2:/s/closed)
say app.no-new-privs $($p do setgroups:33,50,1001 setgid:1001 setuid:1000 no-new-privs -- ./root do ids caps)
say app.regained $($app ./www do setreuid:33:1000 ids setreuid:1000:33 ids)
say app.child $($app ./www do setresuid:33:33:33 -- $p do ids create:/tmp/sid stat:/tmp/sid)
say app.lost-on-exec $($app ./www do -- $p do ids)
chown 1000 www; say changed $(own www) $($app ./www do ids)
ln root hard; ln -s root soft; say app.links $($app ./hard do geteuid) $($app ./soft do geteuid)
cp -p root copy; say app.copy $(own copy) $($app ./copy do geteuid)
mv root moved; say app.moved $($app ./moved do geteuid)
: >moved2; cat moved >moved2; chmod 4755 moved2; say app.by-handle $($app ./moved2 do geteuid)
