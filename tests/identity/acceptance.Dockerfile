# What many real images do with users: packages that make some, a login, a server with a data
# directory of its own that knows its peers by their ids, a server that gives its rights away.
ARG BASE
FROM ${BASE}
ENV DEBIAN_FRONTEND=noninteractive PGBIN=/usr/lib/postgresql/15/bin
RUN apt-get update && apt-get install -y --no-install-recommends openssh-client postgresql nginx procps \
 && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
RUN stat -c '%n %U:%G %a' /usr/bin/ssh-agent /var/lib/postgresql /var/lib/postgresql/15/main /var/log/nginx /var/run/postgresql /etc/shadow \
 && test "$(stat -c %U:%G:%a /usr/bin/ssh-agent)" = root:_ssh:2755
RUN useradd --create-home --uid 1500 --shell /bin/bash zed \
 && test "$(stat -c %U:%G /home/zed)" = zed:zed \
 && su zed -c 'id && touch ~/made && mkdir -m 700 ~/own && echo x >~/own/f && umask 077 && touch ~/private' \
 && su - postgres -c 'id -un' && runuser -u www-data -- id
USER zed
RUN id && test "$(id -un)" = zed && cat ~/own/f && mkdir -m 2775 ~/shared && ! cat /etc/shadow && ! touch /etc/x && mkfifo ~/pipe && ln -s made ~/link
USER postgres
RUN set -e; id; mkdir -m 700 /var/lib/postgresql/data; \
 $PGBIN/initdb -D /var/lib/postgresql/data --auth-local=peer >/dev/null; \
 $PGBIN/pg_ctl -w -D /var/lib/postgresql/data -o '-c listen_addresses= -c unix_socket_directories=/var/run/postgresql' -l /tmp/pg.log start; \
 psql -c 'create table crab(id int); insert into crab values (42)' postgres; \
 test "$(psql -Atc 'select current_user, id from crab' postgres)" = 'postgres|42'; \
 ps -o user=,comm= -C postgres | sort | uniq -c; test -z "$(ps -o user= -C postgres | grep -v postgres)"; stat -c '%n %U:%G %a %F' /var/run/postgresql/.s.PGSQL.5432; \
 $PGBIN/pg_ctl -w -D /var/lib/postgresql/data -m fast stop; rm /tmp/pg.log
USER root
# Peer authentication must refuse somebody else.
RUN set -e; su postgres -c "$PGBIN/pg_ctl -w -D /var/lib/postgresql/data -o '-c listen_addresses= -c unix_socket_directories=/var/run/postgresql' -l /tmp/pg.log start"; \
 if su zed -c 'psql -U postgres -c "select 1" postgres'; then echo 'zed was ''let in as postgres'; exit 1; fi; \
 su postgres -c 'psql -Atc "select id from crab" postgres'; \
 su postgres -c "$PGBIN/pg_ctl -w -D /var/lib/postgresql/data -m fast stop"; rm /tmp/pg.log; \
 sed -i -e 's/listen 80 .*/listen 127.0.0.1:18080;/' -e '/listen \[::\]/d' /etc/nginx/sites-available/default; nginx; \
 stat -c '%n %U:%G %a' /var/log/nginx/*.log /var/lib/nginx/*; ps -o user=,args= -C nginx; ps -o user= -C nginx | grep -q www-data; \
 bash -c 'exec 3<>/dev/tcp/127.0.0.1/18080; printf "GET / HTTP/1.0\r\n\r\n" >&3; grep -q "Welcome to nginx" <&3'; nginx -s quit; sleep 1; tar -C / -cpf /root/zed.tar home/zed && mkdir /root/x && tar -C /root/x --same-owner -xpf /root/zed.tar && rm /root/zed.tar; \
 test "$(stat -c %U:%a /root/x/home/zed/own)" = zed:700
RUN find / -xdev ! -path '/proc/*' ! -path '/sys/*' ! -path '/dev/*' -printf '%u:%g %m %y %p\n' | grep -v '^root:root' | sort -k4 >/root/owners
