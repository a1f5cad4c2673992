/* A PVH kernel as an ELF64 file; its note has an 8-byte entry. */
#include "tests/kernels/pvh.inc"
