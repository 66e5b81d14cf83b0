# Run in a dom0 by `sh -s`: what has to be done there for a folder that is copied to it.
# $1 task, $2 directory, $3 machine. The folder arrives as $3.part and gets its name when it is whole.
# Exit codes from 41 on say what is wrong; lines on standard error that begin with "imgbuild: " say more.
set -u
umask 077
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

fail() {
    code=$1
    shift
    printf '%s\n' "$@" | sed 's/^/imgbuild: /' >&2
    exit "$code"
}

is_export() {
    [ ! -L "$1" ] && grep -qF "\"name\": \"$name\"" "$1/export.json" 2>/dev/null
}

is_running() {
    command -v xl >/dev/null 2>&1 && xl list "$name" >/dev/null 2>&1
}

# Whether the machine has run, which writes to its disk.
was_used() {
    [ -n "$(find "$1" -name 'disk.*' -newer "$1/SHA256SUMS" 2>&1)" ]
}

refuse_what_must_stay() {
    if [ -e "$name" ] || [ -L "$name" ]; then
        is_export "$name" || fail 41 "$name"
        ! is_running || fail 42 "$name"
    fi
}

rename() {
    mv "$1" "$2" || fail 43 "$1 cannot be renamed"
}

# $1: the digest of the SHA256SUMS of the folder to come, $2: what it takes on the disk, in KiB
look() {
    for program in rsync sha256sum; do
        command -v "$program" >/dev/null || fail 44 "$program"
    done
    if is_export "$name" && [ "$(sha256sum <"$name/SHA256SUMS")" = "$1  -" ]; then
        echo present
        return
    fi
    refuse_what_must_stay
    held=0
    if [ -e "$name.part" ]; then
        is_export "$name.part" || fail 41 "$name.part"
        held=$(du -sk "$name.part" | awk '{ print $1 }')
    fi
    free=$(df -Pk . | awk 'NR == 2 { print $4 }')
    [ "$((free + held))" -ge "$2" ] || fail 45 "$free"
    if [ "$held" = 0 ]; then
        mkdir "$name.part" || fail 43 "no folder can be made"
        printf '{"name": "%s"}\n' "$name" >"$name.part/export.json" || fail 43 "no file can be written"
    fi
}

# Prints where the folder is that the machine has run on.
place() {
    sums=$(cd "$name.part" && sha256sum -c SHA256SUMS 2>&1) || fail 46 "$(printf '%s\n' "$sums" | grep -v ': OK$')"
    refuse_what_must_stay
    earlier=
    if [ -e "$name" ] && was_used "$name"; then
        number=1
        while [ -e "$name.used-$number" ]; do number=$((number + 1)); done
        rename "$name" "$name.used-$number"
        echo "$name.used-$number"
    elif [ -e "$name" ]; then
        earlier=$name.old
        rm -rf "$earlier"
        rename "$name" "$earlier"
    fi
    rename "$name.part" "$name"
    [ -z "$earlier" ] || rm -rf "$earlier"
}

start() {
    cd "$name" || fail 43 "the folder cannot be entered"
    said=$(./start 2>&1 </dev/null) || fail 47 "$said"
    printf '%s\n' "$said"
}

main() {
    task=$1
    name=$3
    mkdir -p -- "$2" || fail 43 "the directory cannot be made"
    cd -- "$2" || fail 43 "the directory cannot be entered"
    shift 3
    case $task in
        look) look "$@" ;;
        place) place ;;
        discard) rm -rf "$name.part" ;;
        start) start ;;
    esac
}

# The last line: a script that arrives in part does nothing.
main "$@"
