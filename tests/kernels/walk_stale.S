/* walk.inc's address; after the write its entry leads to another page, and nothing is flushed. */
#define WALK_SHIFT 12
#define WALK_STALE
#include "tests/kernels/walk.inc"
