#!/bin/bash
# Opens a bundle with what every Debian has: sed, sha1sum, openssl, gunzip and GNU tar.
#
#     open_bundle.sh MANIFEST KEY DIRECTORY
#
# MANIFEST is NAME.manifest.xml with the parts beside it, KEY the private key of who made it, in PEM. The image comes
# to lie in DIRECTORY under the name that the bundle gives it. Everything that the manifest says is checked.
set -euo pipefail

manifest=$1 key=$2 directory=$3
parts=$(dirname "$manifest")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    echo "open_bundle.sh: $1" >&2
    exit 1
}

# The manifest is one line without white space between its elements.
text_of() { sed -n "s|.*<image>.*<$1[^>]*>\([^<]*\)</$1>.*|\1|p" "$manifest"; }
from_hex() { tr a-f A-F | basenc --base16 --decode; }

# The signature is over two elements, end to end.
sed -n 's|.*\(<machine_configuration>.*</machine_configuration>\)\(<image>.*</image>\).*|\1\2|p' "$manifest" |
    tr -d '\n' >"$scratch/signed"
sed -n 's|.*<signature>\(.*\)</signature>.*|\1|p' "$manifest" | tr -d '\n' | from_hex >"$scratch/signature"
openssl rsa -in "$key" -pubout -out "$scratch/public.pem" 2>"$scratch/log" || fail "$(cat "$scratch/log")"
openssl dgst -sha1 -verify "$scratch/public.pem" -signature "$scratch/signature" "$scratch/signed" >"$scratch/log" ||
    fail "the signature is not by the owner of $key"

# The key and the vector are hex digits that were encrypted as a text.
for name in key iv; do
    text_of "user_encrypted_$name" | tr -d '\n' | from_hex |
        openssl pkeyutl -decrypt -inkey "$key" -out "$scratch/$name" || fail "the $name is not for the owner of $key"
done

# The names of the parts in order, and the digest of each as sha1sum has it.
sed 's|<part index|\n&|g' "$manifest" |
    sed -n "s|<part index=.*<filename>\(.*\)</filename><digest algorithm='SHA1'>\(.*\)</digest></part>.*|\2  \1|p" \
        >"$scratch/parts"
(cd "$parts" && sha1sum --check --strict --quiet "$scratch/parts") || fail "a part is missing or damaged"
sed 's/^.\{42\}//' "$scratch/parts" >"$scratch/names"
bundled=$(cd "$parts" && xargs cat <"$scratch/names" | wc -c)
[ "$bundled" = "$(text_of bundled_size)" ] || fail "the parts have $bundled bytes"

# AES, gzip and tar, one after another; the digest is that of the archive. (The key in an argument is for others on
# this machine to read while openssl runs.)
archive() {
    (cd "$parts" && xargs cat <"$scratch/names") |
        openssl enc -d -aes-128-cbc -K "$(cat "$scratch/key")" -iv "$(cat "$scratch/iv")" | gunzip
}
digest=$(archive | sha1sum)
[ "${digest%% *}" = "$(sed -n "s|.*<type>machine</type><digest algorithm='SHA1'>\([^<]*\)<.*|\1|p" "$manifest")" ] ||
    fail "the archive has another digest"
archive | tar --extract --sparse --directory "$directory"
image=$directory/$(sed -n 's|.*<image><name>\([^<]*\)</name>.*|\1|p' "$manifest")
[ "$(stat --format %s "$image")" = "$(text_of size)" ] || fail "the image has another size"
echo "$image"
