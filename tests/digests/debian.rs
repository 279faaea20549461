//! Dockerfiles on Debian.
//!
//! Responsible for what Debian's own tools do with owners. They write times and inode numbers into
//! logs and caches, which each step takes away.

/// Names and Dockerfiles; `{debian}` is the base.
pub(super) const DOCKERFILES: &[(&str, &str)] = &[
    (
        "useradd",
        "FROM {debian}\n\
         ENV SOURCE_DATE_EPOCH=1600000000\n\
         RUN groupadd -g 3000 crabs && useradd -m -u 3000 -g crabs -s /bin/sh -k /etc/skel crab && usermod -aG www-data,mail crab && passwd -l crab && chmod 750 /home/crab\n\
         RUN useradd -r -M -d /srv/daemon daemon2 && install -d -o daemon2 -g daemon2 -m 700 /srv/daemon && userdel crab && echo kept >/home/crab/kept\n",
    ),
    (
        "su, runuser and setpriv",
        "FROM {debian}\n\
         RUN for h in su runuser; do $h -s /bin/sh www-data -c \"umask 027; id >/tmp/$h; mkdir /tmp/$h.d; ln -s x /tmp/$h.l\"; done; setpriv --reuid=8 --regid=8 --clear-groups sh -c 'id >/tmp/setpriv; mkfifo /tmp/setpriv.p'\n\
         RUN setpriv --reuid=33 --regid=33 --groups=42,8 sh -c 'head -n 1 /etc/shadow >/tmp/shadow; chgrp 42 /tmp/shadow; chgrp 50 /tmp/shadow 2>/dev/null; true'\n",
    ),
    (
        "set-user-id programs",
        "FROM {debian}\n\
         RUN cp /usr/bin/touch /usr/local/bin/rtouch && chmod 4755 /usr/local/bin/rtouch && cp /usr/bin/mkdir /usr/local/bin/gmkdir && chgrp 50 /usr/local/bin/gmkdir && chmod 2755 /usr/local/bin/gmkdir && cp /usr/bin/touch /usr/local/bin/mtouch && chown 8:8 /usr/local/bin/mtouch && chmod 4755 /usr/local/bin/mtouch\n\
         USER www-data\nRUN rtouch /etc/by-root && gmkdir /tmp/by-staff && mtouch /tmp/by-mail && touch /tmp/by-www\n",
    ),
    (
        "tar",
        "FROM {debian}\nADD owned.tar /a/\n\
         RUN cd /a && tar --numeric-owner --sort=name -cf /t.tar . && mkdir /b /c && tar -xpf /t.tar -C /b && tar -x --no-same-owner -f /t.tar -C /c && rm /t.tar\n\
         USER 1000\nRUN mkdir /tmp/u && cd /tmp/u && tar -C /a -cf - dir | tar -xf - ; ls -ln /tmp/u >/tmp/u.list 2>/dev/null || sed -i 's/[A-Z][a-z][a-z] .*:.. //' /tmp/u.list; rm -f /tmp/u.list\n",
    ),
    (
        "cp -a",
        "FROM {debian}\n\
         RUN cp -a /etc /etc2 && cp -a /var/mail /mail && cp --preserve=all /etc/shadow /s && cp --no-preserve=ownership -r /etc2/shadow /s2 && rm -r /etc2/alternatives\n",
    ),
    (
        "install",
        "FROM {debian}\n\
         RUN install -d -o www-data -g mail -m 2750 /srv/a && install -o www-data -m 4750 /bin/true /srv/a/t && install -D -g staff -m 640 /etc/hostname /srv/b/c/d && install -o nobody -g nogroup -m 0600 /dev/null /srv/n\n",
    ),
    (
        "perl",
        "FROM {debian}\n\
         RUN perl -e 'mkdir \"/p\"; open F, \">/p/f\"; close F; chown 33, 42, \"/p/f\"; chmod 02755, \"/p/f\"; symlink \"f\", \"/p/l\"; mkdir \"/p/d\"; chmod 01777, \"/p/d\"; $) = \"8 8\"; $> = 8; open F, \">/p/d/e\"; close F; $> = 0; rename \"/p/d/e\", \"/p/e\"; my @s = stat \"/p/e\"; open F, \">/p/s\"; print F \"$s[4] $s[5]\"'\n",
    ),
    (
        "dpkg",
        "FROM {debian}\n\
         RUN mkdir -p /w/DEBIAN /w/srv/pkg && printf 'Package: crab\\nVersion: 1\\nArchitecture: all\\nMaintainer: c <c@c>\\nDescription: d\\n' >/w/DEBIAN/control && echo x >/w/srv/pkg/f && chown 33:33 /w/srv/pkg/f && chmod 4755 /w/srv/pkg/f && printf '#!/bin/sh\\nset -e\\ngetent passwd crab >/dev/null || SOURCE_DATE_EPOCH=1600000000 useradd -r -M crab\\nchown crab:mail /srv/pkg\\nchmod 2750 /srv/pkg\\n' >/w/DEBIAN/postinst && chmod 755 /w/DEBIAN/postinst && dpkg-deb -Znone --build /w /crab.deb && dpkg -i /crab.deb && rm -rf /w /crab.deb /var/log/dpkg.log /var/log/alternatives.log /var/cache/debconf /var/lib/dpkg/*-old\n\
         RUN dpkg -P crab && rm -rf /var/log/dpkg.log /var/lib/dpkg/*-old\n",
    ),
    (
        "dpkg-statoverride",
        "FROM {debian}\n\
         RUN dpkg-statoverride --update --add www-data mail 2755 /usr/bin/tac && dpkg-statoverride --list && chown root:shadow /usr/bin/comm && rm -f /var/lib/dpkg/statoverride-old\n",
    ),
    (
        "apt's user",
        "FROM {debian}\n\
         RUN install -d -o _apt -g root -m 700 /var/lib/apt/x && setpriv --reuid=_apt --regid=nogroup --clear-groups sh -c 'echo x >/var/lib/apt/x/f; cat /etc/shadow >/dev/null 2>&1 || echo refused >>/var/lib/apt/x/f'\n",
    ),
    (
        "mixed",
        "FROM {debian} AS build\n\
         RUN mkdir -p /out/bin /out/etc && cp -p /usr/bin/passwd /usr/bin/chage /out/bin/ && cp -p /etc/shadow /out/etc/ && chown -R www-data /out/etc\n\
         FROM {debian}\n\
         COPY --from=build /out /opt/out\nCOPY --from=build --chown=games:games /out/etc /opt/etc\nWORKDIR /opt/w\nUSER games\nCOPY --chown=games f .\nRUN cat f >/tmp/g && test ! -w . && touch /opt/etc/new\n",
    ),
    (
        "chgrp, mv and ln over layers",
        "FROM {debian}\n\
         RUN chgrp -R mail /etc/cron.daily && mv /etc/cron.daily /etc/cron.moved && ln /usr/bin/passwd /usr/bin/passwd2 && chmod u-s /usr/bin/chsh\n\
         RUN mv /etc/cron.moved /etc/cron.daily && rm /usr/bin/passwd && cp -p /usr/bin/passwd2 /usr/bin/passwd\n",
    ),
];
