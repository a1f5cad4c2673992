/* walk.inc's address in a page of 4 KiB, read for ever. */
#define WALK_SHIFT 12
#define WALK_READS
#include "tests/kernels/walk.inc"
