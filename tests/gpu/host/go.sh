#!/bin/bash
# What `feed` made for the beginning, on the host: unpacks it, begins with lanes.sh, and leaves two commands in $LAB.
#
#   go.sh [VARIABLE=VALUE...]      variables of lanes.sh
#   $LAB/take DIRECTORY            takes the pieces in DIRECTORY/SET/NNN
#   $LAB/watch SECONDS [WORD]      the timeline, once WORD is in it or the time is over; the logs to $OUT/out.tgz
set -eu
first=$(cd "$(dirname "$0")" && pwd)
export LAB=${LAB:-/lab}
mkdir -p $LAB/gpu $LAB/in
tar -C $LAB/gpu -xf "$first/gpu.tar"
cp -r "$first/programs" "$first/own" $LAB/in/
. $LAB/gpu/host/env.sh
cat >$LAB/take <<EOF
export LAB=$LAB
for set in "\$1"/*/[0-9][0-9][0-9]; do
    [ ! -e "\$set" ] || bash $LAB/gpu/host/take.sh "\$(basename "\$(dirname "\$set")")" "\$set"
done
EOF
cat >$LAB/watch <<EOF
end=\$((SECONDS + \$1))
until grep -qsE "\${2:-^\$}" $LAB/out/timeline || ((SECONDS >= end)); do sleep 0.5; done
tail -n "\${LINES_SHOWN:-25}" $LAB/out/timeline | cut -c1-300
[ -z "\${OUT:-}" ] || tar -C $LAB --exclude=*.bin -czf "\$OUT/out.tgz" out
EOF
bash $LAB/gpu/host/prepare.sh "$first/repo.tar.gz"
bash $LAB/gpu/host/take.sh own
for word; do export "${word?}"; done
setsid bash $LAB/gpu/host/lanes.sh >$LAB/out/lanes.log 2>&1 </dev/null &
sleep 1
cat $LAB/out/timeline
