#!/bin/sh
# Starts the machine of this folder in this dom0; see ./start --help.
set -eu

@SETTINGS@

usage() {
    cat <<END
usage: ./start [--verify | --config]

Starts $name from the files in this folder, wherever the folder lies.

  --verify   check the files against SHA256SUMS first
  --config   print a configuration with absolute names, for /etc/xen/auto, and start nothing

exit codes: 0 started, 1 xl failed or a file is not as it was exported, 2 wrong usage,
3 this is no dom0, or you are not root, 4 a machine of this name runs already
END
}

fail() {
    code=$1
    shift
    printf 'start: %s\n' "$@" >&2
    exit "$code"
}

verify() {
    sums=$(cat SHA256SUMS)
    # A machine that has run has written to its disk.
    if [ -n "$(find "$disk" -newer SHA256SUMS)" ]; then
        printf 'start: %s was written to since it was exported, so it is not checked\n' "$disk" >&2
        sums=$(printf '%s\n' "$sums" | grep -v "  $disk\$")
    fi
    printf '%s\n' "$sums" | sha256sum -c - >&2 || fail 1 "a file is not as it was exported; export $name again"
}

action=start
case ${1-} in
    '') ;;
    --verify) action=verify ;;
    --config) action=config ;;
    -h | --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
esac
[ $# -le 1 ] || { usage >&2 && exit 2; }

cd "$(dirname "$0")"
here=$(pwd -P)
# In a string of xl.cfg(5) a backslash takes away the meaning of what follows.
folder=$(printf '%s' "$here" | sed "s/[\\\\'\"]/\\\\&/g")

if [ "$action" = config ]; then
    grep -vE "^($absolute_keys) = " "$name.cfg"
    absolute_names "$folder"
    exit 0
fi

PATH=$PATH:/usr/sbin:/sbin
[ "$action" = start ] || verify
command -v xl >/dev/null || fail 3 'there is no xl here: this is no dom0, or its xen-utils are not installed'
trouble=$(xl list 2>&1) || fail 3 'xl does not reach Xen: be root, in a dom0. It says:' "$trouble"
if xl list "$name" >/dev/null 2>&1; then
    fail 4 "$name runs already; see \`xl console $name\`, or end it by \`xl shutdown -w $name\`"
fi
# Later settings win over those in the file.
xl create "./$name.cfg" "$(absolute_names "$folder")" || fail 1 "xl could not start $name"
printf '%s runs; its console: xl console %s (leave it by Ctrl-])\n' "$name" "$name"
