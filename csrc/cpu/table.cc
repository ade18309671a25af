// The kernels of this level, in the order of ops.def.
namespace eyrie::cpu::EYRIE_LEVEL {
extern const Kernel kernels[];
const Kernel kernels[] = {
#define OP(name, signature) name,
#include "ops.def"
#undef OP
};
}  // namespace eyrie::cpu::EYRIE_LEVEL
