#!/bin/sh
# A RUSTC_WRAPPER that compiles what is fuzzed, and only that, with the counters that libFuzzer reads: what it
# depends on is compiled as it is in the house.
case " $* " in
*" --crate-name jam_"* | *" fuzz_targets/"*)
    set -- "$@" --cfg fuzzing -Cdebug-assertions -Coverflow-checks -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table
    ;;
esac
case "${JAM_FUZZ_COMPARES:-yes} $* " in
# Compared values are of use where formats have fixed numbers, and cost a parser half of its time.
no*) ;;
*" --crate-name jam_ir "* | *" --crate-name jam_weights "*)
    set -- "$@" -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
