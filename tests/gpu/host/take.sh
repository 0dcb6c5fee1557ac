#!/bin/bash
# take.sh SET PIECE...: what has come is joined, and the wheels that are complete are made, in the background.
. "$(dirname "$0")/env.sh"
here=$(cd "$(dirname "$0")/.." && pwd)
set=$1
shift
for piece in "$@"; do python3 $here/pieces.py join "$piece" $LAB/in/$set; done
setsid python3 $here/wheels.py unpack $LAB/in/$set $LAB/index --programs $LAB/in/programs >>$LAB/out/unpack-$set.log 2>&1 </dev/null &
tail -n "${LINES_SHOWN:-6}" $LAB/out/timeline 2>/dev/null | cut -c1-300
