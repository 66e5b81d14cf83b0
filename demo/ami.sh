#!/bin/sh
# Registers the worker's image, and proves that what came of it is the image: rebuilt from the AMI's snapshot, and
# from a classic bundle, it is the same byte for byte. Where no account of AWS is set, all happens on this machine.
set -eu

IMGBUILD=${1:-.venv/bin/imgbuild}
scratch=$(mktemp -d)

finish() {
    rm -rf "$scratch"
    [ -z "${started-}" ] || "$IMGBUILD" cloud stop
}
trap finish EXIT
trap 'exit 130' INT TERM

run() {
    echo "\$ $*"
    "$@"
}

if [ -z "${AWS_PROFILE-}${AWS_ACCESS_KEY_ID-}${AWS_ENDPOINT_URL-}" ]; then
    echo "\$ eval \"\$($IMGBUILD cloud start)\""
    settings=$("$IMGBUILD" cloud start)
    eval "$settings"
    started=yes
fi

json_field() {
    sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}$/\1/p" "$2"
}

"$IMGBUILD" show worker --json > "$scratch/worker.json"
disk=$(json_field path "$scratch/worker.json" | head -n 1)
format=$(json_field format "$scratch/worker.json")

echo "\$ $IMGBUILD bundle worker --register --json"
"$IMGBUILD" bundle worker --register --json > "$scratch/ami.json"
cat "$scratch/ami.json"
run "$IMGBUILD" ami list

run "$IMGBUILD" ami fetch "$(json_field ami "$scratch/ami.json")" --output "$scratch/fetched.raw"
run qemu-img compare -f raw -F "$format" "$scratch/fetched.raw" "$disk"
rm "$scratch/fetched.raw"

# A key pair for the classic bundle, as an account of AWS had one; and one in place of EC2's own.
for owner in user ec2; do
    openssl req -x509 -newkey rsa:2048 -nodes -subj "/CN=$owner" -days 1 \
        -keyout "$scratch/$owner.key" -out "$scratch/$owner.pem" 2> "$scratch/openssl.log"
done
run "$IMGBUILD" bundle worker --format instance-store --output "$scratch/bundle" --user 123456789012 \
    --cert "$scratch/user.pem" --key "$scratch/user.key" --ec2cert "$scratch/ec2.pem"
run "$IMGBUILD" unbundle "$scratch/bundle/worker.manifest.xml" --key "$scratch/user.key" \
    --output "$scratch/unbundled.raw"
run qemu-img compare -f raw -F "$format" "$scratch/unbundled.raw" "$disk"
