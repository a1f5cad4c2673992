/* walk.inc's address in a page of 2 MiB, read for ever. */
#define WALK_SHIFT 21
#define WALK_READS
#include "tests/kernels/walk.inc"
