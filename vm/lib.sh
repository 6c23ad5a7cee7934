# Shared by vm/prepare and vm/run: where things are cached, and how to talk to the user.
# Source it after setting VM_DIR to this folder.
# shellcheck shell=bash

export PATH=$PATH:/usr/sbin:/sbin LC_ALL=C
CACHE=${VHOSTFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vhostfs}

# Kernels are named by version because that is what a test cares about; Debian names them by suite.
KERNELS=(6.1 6.12)
suite_of_kernel() {
  case $1 in
    6.1) echo bookworm ;;
    6.12) echo trixie ;;
    *) die "unknown guest kernel '$1' (known: ${KERNELS[*]})" ;;
  esac
}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "error: $*"; exit 125; }

# A stamp is the checksum of what a cached result was made from: it is rebuilt when that changes.
stamp_of() { cat "$@" | cksum | tr ' ' -; }
