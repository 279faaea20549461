# become.sh: www-data by every way that there is.
. /probe/lib.sh
w='sh /probe/who.sh'
command -v busybox >/dev/null && busybox su -s /bin/sh www-data -c "$w bbsu"
$p do setgroups:33 setgid:33 setuid:33 -- $w static
$p do setgroups:33 setresgid:33:33:33 setresuid:33:33:33 -- $w static-res
$p do setgroups:33 setregid:33:33 setreuid:33:33 -- $w static-re
chroot_program=$(command -v chroot)
if [ "$1" = debian ]; then
	su -s /bin/sh www-data -c "$w su"
	runuser -u www-data -- $w runuser
	setpriv --reuid=33 --regid=33 --init-groups $w setpriv
	setpriv --reuid=www-data --regid=www-data --groups=33 --inh-caps=-all $w setpriv-names
	$chroot_program --userspec=33:33 --groups=33 / $w chroot
	start-stop-daemon --start --quiet --chuid www-data --pidfile /none --startas /bin/sh -- /probe/who.sh daemon
	python3 -c 'import os, sys; os.setgroups([33]); os.setgid(33); os.setuid(33); os.execvp(sys.argv[1], sys.argv[1:])' $w python
	python3 -c 'import subprocess, sys; subprocess.run(sys.argv[1:], user=33, group=33, extra_groups=[33], check=True)' $w python-run
	perl -e '$( = 33; $) = "33 33"; $< = 33; $> = 33; exec @ARGV' $w perl
fi
