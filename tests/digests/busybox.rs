//! Dockerfiles on the small bases.
//!
//! Responsible for steps whose layers depend on nothing but what they say. No device nodes and no id
//! above 65535: those a range of ids can't have. No write to a file with set-id bits: root keeps them
//! in the first user namespace, and nowhere else.

/// Names and Dockerfiles; `{busybox}`, `{owners}` and `{layered}` are the bases.
pub(super) const DOCKERFILES: &[(&str, &str)] = &[
    (
        "chown",
        "FROM {busybox}\n\
         RUN mkdir -p /d/e && echo x >/d/f && echo y >/d/e/g && chown 33:42 /d/f && chown -R 1000:1001 /d/e\n\
         RUN chown :50 /d/e/g && chown 65535:65535 /d\n",
    ),
    (
        "owners of links",
        "FROM {busybox}\n\
         RUN cd /tmp && ln -s nowhere a && ln -s a b && echo x >c && ln -s c d && chown -h 33:33 a b && chown 8:8 d\n\
         RUN chown -h 0:42 /tmp/b && readlink /tmp/a && cp -a /tmp/b /tmp/e\n",
    ),
    (
        "set-id bits",
        "FROM {busybox}\n\
         RUN cd /tmp && for m in 4755 2755 6755 1777 4644 2644; do echo $m >$m; chmod $m $m; echo $m >c$m; chmod $m c$m; chown 33:33 c$m; done\n\
         RUN cd /tmp && chown 8:8 4755 && chmod 4711 2755\n",
    ),
    (
        "fifos",
        "FROM {busybox}\n\
         RUN mkfifo -m 620 /tmp/p /tmp/q && chown 33:8 /tmp/p && mknod -m 600 /tmp/r p && mv /tmp/q /tmp/s && ln /tmp/p /tmp/p2\n\
         RUN chown 42:42 /tmp/s && chmod 666 /tmp/r && rm /tmp/p2\n",
    ),
    (
        "hard links",
        "FROM {busybox}\n\
         RUN mkdir /a /b && echo x >/a/f && chown 33:33 /a/f && ln /a/f /b/f && ln -s f /a/l && chown -h 8:8 /a/l\n\
         RUN chown 1000:1000 /b/f && ln /b/f /c\n\
         RUN rm /a/f && chmod 600 /c\n",
    ),
    (
        "set-group-id directories",
        "FROM {busybox}\n\
         RUN mkdir /d && chgrp 33 /d && chmod 2775 /d && mkdir /d/e && touch /d/f /d/e/g && mkfifo /d/p && ln -s x /d/l\n\
         RUN mkdir -p /d/e/h/i && echo x >/d/e/h/i/j && chmod g-s /d/e/h\n",
    ),
    (
        "su",
        "FROM {owners}\n\
         RUN su app -c 'touch /tmp/by-app && mkdir /home/app/d && echo x >/home/app/d/f && id >/home/app/id'\n\
         RUN su app -c 'rm /home/app/.profile && chmod 700 /home/app/d; touch /etc/not 2>/dev/null; true'\n",
    ),
    (
        "user",
        "FROM {owners}\n\
         USER app\n\
         RUN touch /home/app/f && mkdir -m 700 /home/app/d && ln -s f /home/app/l && mkfifo /home/app/p && ln /home/app/f /home/app/g\n\
         RUN echo more >>/home/app/f && cat /etc/shadow >/home/app/shadow 2>/dev/null || echo refused >/home/app/refused\n\
         USER root\n\
         RUN mv /home/app/d /root/d && chown 0:0 /home/app/p\n",
    ),
    (
        "numeric user",
        "FROM {busybox}\nUSER 4000:4001\nRUN touch /tmp/a && mkdir /tmp/d && id >/tmp/d/id\nUSER 4002\nRUN touch /tmp/b && rm /tmp/a 2>/dev/null || touch /tmp/sticky\n",
    ),
    (
        "umask",
        "FROM {owners}\n\
         RUN umask 077 && echo x >/tmp/a && mkdir /tmp/b && umask 027 && echo y >/tmp/c && mkdir -p /tmp/d/e && mkfifo /tmp/p\n\
         USER app\nRUN umask 002 && touch /tmp/f && (umask 0777 && touch /tmp/g)\n",
    ),
    (
        "tar",
        "FROM {owners}\n\
         RUN mkdir /s && cd /s && echo 1 >a && echo 2 >b && mkdir c && ln -s a l && mkfifo p && chown 33:33 a c && chown -h 8:8 l && chown 42:0 p && chmod 4755 b && tar -cf /t.tar . && mkdir /x && tar -xpf /t.tar -C /x && rm /t.tar\n\
         RUN cd / && tar -cf - home var | (mkdir /y && cd /y && tar -xpf -)\n",
    ),
    (
        "cp -a",
        "FROM {owners}\n\
         RUN cp -a /home/app /home/copy && cp -a /var/mail /var/www /srv 2>/dev/null || mkdir /srv && cp -a /var/mail /var/www /etc/shadow /srv/\n\
         RUN cp -pR /srv /srv2 && cp /etc/shadow /etc/shadow2\n",
    ),
    (
        "opaque directories",
        "FROM {owners}\n\
         RUN rm -r /home/app && mkdir /home/app && echo new >/home/app/new && chown 33:33 /home/app\n\
         RUN rm -r /home/app /var/www && mkdir -p /var/www/html && chown -R 1000:1001 /var/www\n",
    ),
    (
        "rename of lower directories",
        "FROM {owners}\n\
         RUN mv /home/app /home/moved && mv /var/mail /var/post && mv /etc/shadow /etc/shadow-\n\
         RUN mv /home/moved /home/app && mv /etc/shadow- /etc/shadow\n",
    ),
    (
        "no-op chown",
        "FROM {owners}\n\
         RUN chown 0:42 /etc/shadow && chown 1000:1001 /home/app\n\
         RUN chown -R 1000:1001 /home/app && chmod 640 /etc/shadow\n",
    ),
    (
        "touch",
        "FROM {owners}\n\
         RUN touch -d '2001-02-03 04:05:06' /etc/shadow /var/mail && touch /var/nobody\n\
         RUN touch /home/app/.profile && touch -h -d '2002-03-04 05:06:07' /bin/sh\n",
    ),
    (
        "modes alone",
        "FROM {owners}\n\
         RUN chmod 600 /etc/shadow && chmod 700 /home/app && chmod g-s /var/mail && chmod u-s /usr/bin/setuid\n\
         RUN chmod 4755 /usr/bin/setuid && chmod 000 /var/nobody\n",
    ),
    (
        "owners alone",
        "FROM {owners}\n\
         RUN chown 42 /etc/shadow && chown -R 8:8 /home/app /var/www && chown 33 /usr/bin/setgid && chown -h 33:33 /bin/sh\n\
         RUN chown 0:0 /etc/shadow /var/nobody\n",
    ),
    (
        "deletions",
        "FROM {owners}\n\
         RUN rm /etc/shadow /var/nobody && rm -r /home/app && rmdir /var/mail\n\
         RUN echo back >/etc/shadow && mkdir /var/mail\n",
    ),
    (
        "another of the same name",
        "FROM {owners}\n\
         RUN rm /etc/shadow && echo x >/etc/shadow && chown 33:33 /etc/shadow && rm /var/nobody && mkfifo /var/nobody && chown 8:8 /var/nobody\n\
         RUN rm /var/nobody && ln -s /etc/shadow /var/nobody && rmdir /var/mail && touch /var/mail\n",
    ),
    (
        "COPY --chown",
        "FROM {owners}\n\
         COPY --chown=33:42 tree /a/\nCOPY --chown=app:staff f /b\nCOPY --chown=app f /home/app/\nCOPY --chown=:mail f /c\nRUN ls -ln /a >/listing\n",
    ),
    (
        "COPY --chmod",
        "FROM {owners}\n\
         COPY --chmod=4750 --chown=1000:1001 f script.sh /usr/local/bin/\nCOPY --chmod=600 tree /t\nRUN stat -c '%a %u %g' /usr/local/bin/f >/modes\n",
    ),
    (
        "COPY into others' directories",
        "FROM {owners}\n\
         COPY f /home/app/x/y/f\nCOPY tree /var/www/tree\nCOPY f /var/mail/f\nUSER app\nCOPY f /home/app/z/f\n",
    ),
    (
        "COPY --from",
        "FROM {owners} AS one\n\
         RUN mkdir /d && cd /d && echo x >f && chown 33:42 f && ln -s f l && chown -h 8:8 l && mkdir -m 2770 s && chgrp 50 s && ln f g\n\
         FROM {busybox}\n\
         COPY --from=one /d /d\nCOPY --from=one /home/app /home/app\nCOPY --from=one --chown=1:2 /d /e\nCOPY --from=one /etc/shadow /etc/\nRUN stat -c '%n %u %g' /d/* >/listing\n",
    ),
    (
        "stages on stages",
        "FROM {owners} AS one\n\
         RUN chown 33:33 /etc/shadow\n\
         FROM one AS two\n\
         RUN chgrp 8 /etc/shadow && su app -c 'touch /home/app/two'\n\
         FROM two\n\
         COPY --from=one /etc/shadow /etc/shadow.one\nRUN cp -p /etc/shadow /etc/shadow.two\n",
    ),
    (
        "ADD of an archive",
        "FROM {busybox}\nADD owned.tar /a/\nRUN chown 50 /a/file && touch /a/dir/new\nRUN cp -a /a /b && rm /a/pipe\n",
    ),
    (
        "ADD --chown",
        "FROM {owners}\nADD --chown=app:app f /f\nADD owned.tar /home/app/\nRUN rm -r /home/app/dir\n",
    ),
    (
        "WORKDIR",
        "FROM {owners}\n\
         USER app\nWORKDIR /w/x/y\nWORKDIR z\nUSER root\nRUN chown 1000:1001 . && echo x >f\nWORKDIR /home/app\nUSER app\nRUN touch here\n",
    ),
    (
        "many files",
        "FROM {busybox}\n\
         RUN mkdir /m && cd /m && i=0; while [ $i -lt 400 ]; do mkdir d$i; echo $i >d$i/f; echo $i >d$i/g; ln -s f d$i/l; i=$((i+1)); done; chown -R 33:33 d1*; chown -Rh 1000:1001 d2*; chmod -R go-rx d3*\n\
         RUN cd /m && rm -r d10* && chown -h 8:8 d*/l && mv d20 e20\n",
    ),
    (
        "odd names",
        "FROM {owners}\n\
         RUN mkdir '/a b' && echo x >'/a b/.hidden' && echo y >\"/a b/$(printf 'new\\nline')\" && touch '/a b/-dash' '/a b/ünïcödé' '/a b/..dots' && chown 33:33 '/a b/.hidden' '/a b'/*\n\
         RUN rm '/a b/.hidden' && mv '/a b' '/a  b'\n",
    ),
    (
        "long names",
        "FROM {busybox}\n\
         RUN n=$(printf '%0150d' 7) && mkdir -p /$n/$n/$n && echo x >/$n/$n/$n/$n && ln -s /$n/$n/$n/$n /l && chown -h 33:33 /l /$n/$n/$n/$n && ln /$n/$n/$n/$n /h\n",
    ),
    (
        "other kinds of the same name",
        "FROM {layered}\n\
         RUN rm -r /data/becomes-dir && ln -s /tmp /data/becomes-dir && rm /data/becomes-file && mkdir /data/becomes-file && chown 33:33 /data/becomes-file && rm /data/pipe && echo x >/data/pipe\n\
         RUN rm /data/becomes-dir && mkfifo /data/becomes-dir && chown 8:50 /data/becomes-dir\n",
    ),
    (
        "layers below",
        "FROM {layered}\n\
         RUN chown 42:42 /data/linked && chmod 660 /data/pipe && touch /data/opaque/newer && rm /data/kept\n\
         RUN echo x >>/data/original && chown -R 33:33 /data\n\
         RUN rm -r /data/opaque && mkdir /data/opaque\n",
    ),
    (
        "file capabilities",
        "FROM {layered}\n\
         RUN chmod 700 /usr/bin/server && cp -p /usr/bin/server /usr/bin/copy\n\
         RUN mv /usr/bin/server /usr/bin/moved && ln /usr/bin/moved /usr/bin/linked\n",
    ),
    (
        "lost file capabilities",
        "FROM {owners}\nRUN chown 33 /usr/bin/server\nRUN chown 8:8 /usr/bin/setgid /usr/bin/setuid\n",
    ),
    (
        "many users",
        "FROM {busybox}\n\
         RUN for u in 1 2 3 40 500 6000 65534; do mkdir -m 1777 /u$u; su -s /bin/sh nobody -c \"touch /u$u/n\"; echo $u >/u$u/f; chown $u:$u /u$u /u$u/f; done\n\
         USER 500\nRUN cat /u500/f >/u500/g && rm /u500/f && mkdir /u40/d 2>/dev/null; cp /u1/f /u40/copy; chmod 600 /u40/copy\n",
    ),
    (
        "exchange of files",
        "FROM {owners}\n\
         RUN mv /etc/shadow /t && mv /var/nobody /etc/shadow && mv /t /var/nobody && ln -f /var/nobody /n2 && mv -f /etc/shadow /n3\n",
    ),
    (
        "arguments and variables",
        "FROM {owners}\nARG WHO=33\nENV A=b\nLABEL l=m\nRUN echo $WHO >/who && chown $WHO /who\nVOLUME /v\nEXPOSE 80\nRUN mkdir /v && chown 8:8 /v\nENTRYPOINT [\"/bin/sh\"]\n",
    ),
    (
        "sed -i and rewritten files",
        "FROM {owners}\n\
         RUN sed -i s/root/toor/ /etc/shadow && sed -i s/022/077/ /home/app/.profile && : >/var/nobody\n\
         USER app\nRUN sed -i s/077/027/ /home/app/.profile\n",
    ),
    (
        "truncated and grown files",
        "FROM {owners}\nRUN truncate -s 100 /etc/shadow && truncate -s 5M /var/nobody && dd if=/dev/zero of=/z bs=1k count=64 2>/dev/null && chown 33 /z\nRUN truncate -s 0 /z\n",
    ),
    (
        "empty steps",
        "FROM {owners}\nRUN true\nUSER app\nRUN cat /home/app/.profile >/dev/null; true\nUSER 0\nRUN mkdir /t && rmdir /t\n",
    ),
    (
        "find -exec",
        "FROM {owners}\nCOPY --chown=1000:1001 tree /tree\n\
         RUN find /tree -user 1000 -exec chown -h 33:33 {} + && find / -xdev -group 8 -exec chgrp -h 50 {} + && find /tree -type d -exec chmod 2755 {} +\n",
    ),
];
