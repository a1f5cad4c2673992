/* walk.inc's address in a page of 4 KiB. */
#define WALK_SHIFT 12
#include "tests/kernels/walk.inc"
