# What the probes' shell scripts share. `p` is the static program.
p=/probe/p
say() { name=$1; shift; echo "$name=$*"; }
own() { stat -c %u:%g:%a "$1" 2>/dev/null || echo none; }
# rights NAME COMMAND…: whether it succeeds.
rights() { name=$1; shift; if "$@" >/dev/null 2>&1; then say "$name" ok; else say "$name" refused; fi; }
