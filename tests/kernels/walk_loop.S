/* walk.inc's tables, but each unused entry of the root refers to the root. */
#define WALK_SHIFT 12
#define WALK_LOOP
#include "tests/kernels/walk.inc"
