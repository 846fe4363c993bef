#!/bin/sh
# SPDX-License-Identifier: MIT
# Gets the data sets that build/train reads.
#
#     examples/data/get.sh                      Fashion-MNIST into build/data/fashion-mnist
#     examples/data/get.sh fashion-mnist DIR    the same into DIR
#     examples/data/get.sh cifar10 [DIR]        CIFAR-10 into DIR, default build/data/cifar10 (from local files only)
#     examples/data/get.sh tinyshakespeare      text, for bench-stragglers, into build/data/tinyshakespeare (likewise)
#     examples/data/get.sh adult                UCI Adult, for bench-consensus, into build/data/adult (likewise)
#     examples/data/get.sh NAME DIR FROM        unpacks what lies in FROM (.xz, .gz or plain) instead of fetching
#
# Without FROM, a folder ../shared/data/NAME beside the repository is used if there is one. Otherwise Fashion-MNIST is
# fetched from the repository of its authors (about 30 MB), as .gz files, which build/train reads as they are if it was
# built with zlib; without zlib they are unpacked.
set -eu
here=$PWD
cd "$(dirname "$0")/../.."

say() { echo "get.sh: $*"; }
die() { echo "get.sh: $*" >&2; exit 1; }

name=${1:-fashion-mnist}
case $name in
fashion-mnist) files='train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte' ;;
cifar10) files='data_batch_1.bin data_batch_2.bin data_batch_3.bin data_batch_4.bin data_batch_5.bin test_batch.bin' ;;
tinyshakespeare) files=input.txt ;;
adult) files='adult.data adult.test' ;;
-h | --help) sed -n '3,14s/^# \{0,1\}//p' examples/data/get.sh; exit 0 ;;
*) echo "get.sh: unknown data set '$name' (fashion-mnist, cifar10, tinyshakespeare, adult)" >&2; exit 2 ;;
esac
# paths given are the caller's, the default ones the repository's
path() { case $1 in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
dir=build/data/$name
[ -z "${2:-}" ] || dir=$(path "$2")
from=
[ -z "${3:-}" ] || from=$(path "$3")
if [ -z "$from" ] && [ -d "../shared/data/$name" ]; then from=../shared/data/$name; fi
if [ -n "$from" ] && [ ! -d "$from" ]; then die "no folder $from"; fi

# Bytes that a complete file has, so that one broken off is noticed and one that is there is not made again.
size_of() {
    case $1 in
    train-images*) echo 47040016 ;;
    train-labels*) echo 60008 ;;
    t10k-images*) echo 7840016 ;;
    t10k-labels*) echo 10008 ;;
    *.bin) echo 30730000 ;;
    input.txt) echo 1115394 ;;
    adult.data) echo 3974305 ;;
    adult.test) echo 2003153 ;;
    esac
}
whole() { [ -f "$1" ] && [ "$(wc -c <"$1" | tr -d ' ')" = "$(size_of "${1##*/}")" ]; }
need() { command -v "$1" >/dev/null 2>&1 || die "$1 is needed to unpack $2"; }

mkdir -p "$dir"
part=
trap '[ -z "$part" ] || rm -f "$part"' EXIT
trap 'exit 1' HUP INT TERM

if [ -n "$from" ]; then
    found=0
    for f in $files; do
        if whole "$dir/$f"; then found=$((found + 1)); continue; fi
        part=$dir/$f.part
        if [ -f "$from/$f.xz" ]; then need xz "$f.xz"; xz -dc "$from/$f.xz" >"$part"
        elif [ -f "$from/$f.gz" ]; then need gzip "$f.gz"; gzip -dc "$from/$f.gz" >"$part"
        elif [ -f "$from/$f" ]; then cp "$from/$f" "$part"
        else
            # CIFAR-10 can be used with fewer training batches than five.
            case $f in data_batch_[2-5].bin) continue ;; esac
            die "no $f, $f.xz or $f.gz in $from"
        fi
        mv "$part" "$dir/$f"
        whole "$dir/$f" || die "$dir/$f has $(wc -c <"$dir/$f" | tr -d ' ') bytes, expected $(size_of "$f")"
        found=$((found + 1))
    done
    say "$name: $found files in $dir, from $from"
    exit 0
fi

[ "$name" = fashion-mnist ] ||
    die "$name is not fetched: get it yourself, unpacked (CIFAR-10: the binary version), and call: get.sh $name $dir FOLDER"
url=https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion
if command -v curl >/dev/null 2>&1; then fetch() { curl -fsSL --retry 3 -o "$2" "$1"; }
elif command -v wget >/dev/null 2>&1; then fetch() { wget -q -O "$2" "$1"; }
else die "curl or wget is needed to fetch $url"; fi
need gzip "the files"
unpacks() { [ "$(gzip -dc "$1" 2>/dev/null | wc -c | tr -d ' ')" = "$(size_of "$f")" ]; }
for f in $files; do
    if whole "$dir/$f"; then continue; fi
    if [ -f "$dir/$f.gz" ] && unpacks "$dir/$f.gz"; then continue; fi
    say "fetching $f.gz"
    part=$dir/$f.gz.part
    fetch "$url/$f.gz" "$part" || die "could not fetch $url/$f.gz (no internet?)"
    unpacks "$part" || die "$f.gz is broken: try again"
    mv "$part" "$dir/$f.gz"
done
if ! pkg-config --exists zlib 2>/dev/null; then
    for f in $files; do [ ! -f "$dir/$f.gz" ] || gzip -df "$dir/$f.gz"; done
fi
say "$name: $(for f in $files; do ls "$dir/$f" "$dir/$f.gz" 2>/dev/null; done | wc -l | tr -d ' ') files in $dir"
