/* walk.inc's address in a page of 1 GiB. */
#define WALK_SHIFT 30
#include "tests/kernels/walk.inc"
