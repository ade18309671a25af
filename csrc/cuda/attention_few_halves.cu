// Attention of few rows a request over pages of 16 bits.
#include "cuda/attention_few.cuh"

namespace eyrie::cuda::attention {

template bool attend_decode<f16>(const Args&, Context&);
template bool attend_decode<bf16>(const Args&, Context&);

}  // namespace eyrie::cuda::attention
