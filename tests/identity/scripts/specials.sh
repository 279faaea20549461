# specials.sh: device nodes, pipes and sockets.
. /probe/lib.sh
mkdir /n
cd /n || exit 1
say mknod $($p do character:1:3:null character:1:5:zero character:1:7:full character:1:8:random character:1:9:urandom block:7:0:loop character:10:229:fuse node:file fifo:pipe)
kind() { stat -c '%u:%g:%a %F %t:%T' "$1" 2>/dev/null | sed 's/ empty / /' || echo none; }
for f in null zero loop fuse file pipe; do say kind.$f $(kind $f); done
say views $($p do stat:null stat:loop stat:pipe)
say null $($p do bytes:null)
say zero $($p do bytes:zero)
say full $($p do bytes:full)
say urandom $($p do bytes:urandom)
echo discarded >null; say sent $? $(stat -c %s null) $(cat null | wc -c)
say head $(head -c 5 zero 2>/dev/null | wc -c)
say tests $(test -c null && echo c) $(test -b loop && echo b) $(test -f null && echo f)
chown 33:34 null; chmod 640 null; say chowned $(kind null)
mv null moved; say moved $(kind moved)
cp -a moved copied 2>/dev/null; say copied $(kind copied)
mkdir archive; tar -cf - moved pipe 2>/dev/null | tar -C archive -xpf - 2>/dev/null; say archived $(kind archive/moved) / $(kind archive/pipe)
ln moved hard; say hard $(kind hard)
rm moved; : >moved; say reused $(kind moved)
say www $($p do setgid:33 setuid:33 -- $p do bytes:zero bytes:hard)
say find $(find . -type c | sort | tr '\n' ' ') $(find . -type b)
