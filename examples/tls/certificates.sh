#!/bin/sh
# Makes, in the directory that is named (default: ./certificates), an authority and what it issues:
#   ca.pem           whom to trust
#   server.pem .key  for a server called localhost (and 127.0.0.1)
#   client.pem .key  for a caller
# Certificates end after 30 days. Run it again for new ones: routers take them within a second.
set -eu
directory=${1:-certificates}
mkdir -p "$directory"
cd "$directory"
umask 077

if [ ! -f ca.key ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
        -subj "/O=Example/CN=Example authority" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout ca.key -out ca.pem
fi

# issue FILE NAME SUBJECT_ALT_NAMES USE
issue() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=Example/CN=$2" \
        -keyout "$1.key.new" -out "$1.request"
    printf 'subjectAltName=%s\nextendedKeyUsage=%s\n' "$3" "$4" >"$1.extensions"
    openssl x509 -req -in "$1.request" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
        -extfile "$1.extensions" -out "$1.pem.new"
    # The key first: a certificate without its key would be refused, and the last good pair stay in use.
    mv "$1.key.new" "$1.key"
    mv "$1.pem.new" "$1.pem"
    rm "$1.request" "$1.extensions"
}
issue server localhost "DNS:localhost,IP:127.0.0.1" serverAuth
issue client client "URI:spiffe://example.org/client" clientAuth
