/* walk.inc's address in a page of 2 MiB. */
#define WALK_SHIFT 21
#include "tests/kernels/walk.inc"
