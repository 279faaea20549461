# tools.sh: programs that read, write and insist on owners.
. /probe/lib.sh
mkdir -p /t
cd /t || exit 1
: >f; chown 33:33 f; ln -s f l; chown -h 8:9 l; mkfifo p; chown 3:4 p; mkdir -m 2775 d; chown 0:33 d; chmod 2775 d; cp /probe/p s; chown 33:34 s; chmod 4755 s; ln f h
all() { (cd $1 && for i in f l p d s h; do own $i; done | tr '\n' ' '; stat -c %h f); }
say made $(all .)
say tar-list $(tar --numeric-owner -cf - f l | tar --numeric-owner -tvf - | tr -s ' ' | cut -d' ' -f1-2 | tr '\n' ' ')
mkdir x1 x2 x3 x4 x5 x6
tar -cpf - f l p d s h | tar -C x1 -xpf -; say tar $(all x1)
busybox tar -cpf - f l p d s h | busybox tar -C x2 -xpf -; say bbtar $(all x2)
cp -a f l p d s h x3; say cp $(all x3)
rsync -aH f l p d s h x4/; say rsync $(all x4)
busybox cp -a f l p d s h x5; say bbcp $(all x5)
python3 -c 'import tarfile
with tarfile.open("py.tar", "w") as t:
    for n in "flpdsh": t.add(n)
tarfile.open("py.tar").extractall("x6", numeric_owner=True)'; say pytar $(all x6)
install -o 33 -g 34 -m 4755 /probe/p installed; say install $(own installed)
install -d -o www-data -g staff -m 2770 installed-dir; say install-d $(own installed-dir)
useradd -m zed; say useradd $(stat -c %U:%G /home/zed /home/zed/.profile | tr '\n' ' ')
useradd --uid 70000 --create-home far 2>/dev/null; say far $(stat -c %u:%g:%U /home/far 2>/dev/null)
say su-zed $(su zed -c 'id -un; touch ~/made; stat -c %U:%G ~/made; mkdir -m 700 ~/own; touch ~/own/in; ls ~/own' | tr '\n' ' ')
say su-refused $(setpriv --reuid=33 --regid=33 --clear-groups su zed -c id </dev/null >/dev/null 2>&1; echo $?)
echo 'zed:secret' | chpasswd; say chpasswd $? $(own /etc/shadow)
groupadd crabs; usermod -aG crabs zed; say usermod $(id -Gn zed)
say su-groups $(su - zed -c 'id -Gn')
: >secret; chmod 640 secret; chgrp crabs secret; say sg $(su zed -c "sg crabs -c 'id -gn; touch /tmp/by-sg; stat -c %G /tmp/by-sg'" | tr '\n' ' ')
say traced $(: >tr; strace -qq -o trace chown 33:34 tr; own tr; grep -c '^f\?chown' trace; setpriv --reuid=33 --regid=33 --clear-groups strace -qqf -o /dev/null sh -c 'id -u; stat -c %u /etc/shadow' | tr '\n' ' ')
say ambient $(setpriv --reuid=33 --regid=33 --clear-groups --inh-caps=+chown --ambient-caps=+chown /probe/p do caps chown:1:1:/t/tr stat:/t/tr read:/etc/shadow)
say limit $(setpriv --reuid=33 --regid=33 --clear-groups python3 -c 'import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (100, 200)); print(r.getrlimit(r.RLIMIT_RTTIME), r.getrlimit(r.RLIMIT_NOFILE))')
say group-reads $(su zed -c 'cat /t/secret && echo yes'; setpriv --reuid=33 --regid=33 --clear-groups cat secret 2>/dev/null || echo no)
dpkg-statoverride --add --update www-data staff 2750 /t/d; say statoverride $(own d)
say find $(find . -maxdepth 1 -uid 33 | sort | tr '\n' ' ')
say ls $(ls -ln s | tr -s ' ' | cut -d' ' -f1,3,4) $(ls -l s | tr -s ' ' | cut -d' ' -f3,4)
say test $(setpriv --reuid=33 --regid=33 --clear-groups sh -c 'test -O f && echo owner; test -w f && echo writes; test -w p || echo not; test -r /etc/shadow || echo unread' | tr '\n' ' ')
say ps $(setpriv --reuid=33 --regid=33 --clear-groups sleep 5 & sleep 0.3; ps -o user= -C sleep; ps -u www-data -o comm= | head -1; pgrep -c -u www-data sleep; pkill -u www-data sleep)
say acl $(setfacl -m u:33:r f 2>/dev/null; getfacl -cn f 2>/dev/null | grep -c '^user:33:r--')
say mktemp $(setpriv --reuid=33 --regid=33 --clear-groups sh -c 'own=$(mktemp); stat -c %u:%a $own; d=$(mktemp -d); stat -c %u:%a $d' | tr '\n' ' ')
