# shellcheck shell=bash
# Checks an image in an OCI layout with nothing but sha256sum, jq and tar: no code of crossdock judges
# crossdock here. Sourced by the demo.

# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

checks_passed=0
checks_failed=0

# check TEXT COMMAND...: one line for a person; a failure is remembered and the run goes on.
check() {
    local text=$1
    shift
    if "$@"; then
        printf '    %sok%s      %s\n' "$green" "$reset" "$text"
        checks_passed=$((checks_passed + 1))
    else
        printf '    %sFAILED%s  %s\n' "$red" "$reset" "$text"
        checks_failed=$((checks_failed + 1))
    fi
}

# equal WHAT EXPECTED ACTUAL: a check that two texts are the same.
equal() {
    check "$1" test "$2" = "$3"
    [[ $2 == "$3" ]] || printf '            expected %s\n            found    %s\n' "$2" "$3"
}

sha256_of() { sha256sum "$1" | cut -d' ' -f1; }
sha256_of_stdin() { sha256sum | cut -d' ' -f1; }

# blob_path LAYOUT DIGEST
blob_path() { printf '%s/blobs/%s' "$1" "${2/://}"; }

# The digest and the size of a blob are those that name it.
check_blob() {
    local layout=$1 what=$2 digest=$3 size=$4 path
    path=$(blob_path "$layout" "$digest")
    equal "$what: sha256 is ${digest:7:12}..." "${digest#sha256:}" "$(sha256_of "$path")"
    equal "$what: $(human_bytes "$size") as the manifest says" "$size" "$(stat -c %s "$path")"
}

# Writes a layer's tar to stdout, whatever it is stored as.
uncompressed_layer() {
    local layout=$1 digest=$2 media_type=$3
    case $media_type in
        *+gzip | *.tar.gzip) gzip -dc "$(blob_path "$layout" "$digest")" ;;
        *+zstd) zstd -dc "$(blob_path "$layout" "$digest")" ;;
        *) cat "$(blob_path "$layout" "$digest")" ;;
    esac
}

# verify_blobs LAYOUT MANIFEST_DIGEST: manifest, config, every layer and every diff ID.
verify_blobs() {
    local layout=$1 manifest_digest=$2 manifest config i=0 digest size media_type diff_id
    manifest=$(blob_path "$layout" "$manifest_digest")
    equal "manifest: sha256 is ${manifest_digest:7:12}..." "${manifest_digest#sha256:}" "$(sha256_of "$manifest")"

    digest=$(jq -r .config.digest "$manifest")
    config=$(blob_path "$layout" "$digest")
    check_blob "$layout" "config" "$digest" "$(jq -r .config.size "$manifest")"
    equal "config: one diff ID a layer" "$(jq '.layers | length' "$manifest")" \
        "$(jq '.rootfs.diff_ids | length' "$config")"

    while read -r digest size media_type; do
        check_blob "$layout" "layer $i" "$digest" "$size"
        diff_id=$(jq -r ".rootfs.diff_ids[$i]" "$config")
        equal "layer $i: the uncompressed tar is the config's diff ID ${diff_id:7:12}..." "${diff_id#sha256:}" \
            "$(uncompressed_layer "$layout" "$digest" "$media_type" | sha256_of_stdin)"
        i=$((i + 1))
    done < <(layers_of "$manifest")
}

layers_of() { jq -r '.layers[] | "\(.digest) \(.size) \(.mediaType)"' "$1"; }

# layer_with LAYOUT MANIFEST PATH: "DIGEST MEDIA_TYPE" of the last layer that has the path. (No grep -q: it
# would end tar by a broken pipe.)
layer_with() {
    local layout=$1 manifest=$2 path=$3 digest media_type found=''
    while read -r digest _ media_type; do
        if uncompressed_layer "$layout" "$digest" "$media_type" | tar -t | grep -Fx "$path" >/dev/null; then
            found="$digest $media_type"
        fi
    done < <(layers_of "$manifest")
    echo "$found"
}

# verify_file LAYOUT MANIFEST SOURCE PATH: the bytes, the mode and the owner of one file in the image.
verify_file() {
    local layout=$1 manifest=$2 source=$3 path=$4 digest media_type listing
    read -r digest media_type < <(layer_with "$layout" "$manifest" "$path")
    if [[ -z $digest ]]; then
        check "/$path: is in a layer" false
        return
    fi
    listing=$(uncompressed_layer "$layout" "$digest" "$media_type" | tar --numeric-owner -tv "$path")
    equal "/$path: sha256, mode and owner" "$(sha256_of "$source") $(stat -c %A "$source") 0/0" \
        "$(uncompressed_layer "$layout" "$digest" "$media_type" | tar -xO "$path" | sha256_of_stdin) $(
            awk '{ print $1, $2 }' <<<"$listing"
        )"
}
