/* A PVH kernel as an ELF32 file; its note has a 4-byte entry. */
#include "tests/kernels/pvh.inc"
