{
  # A bridge for node-gyp and prebuildify; CMakeLists.txt is the build. Options come from the environment, as these tools
  # pass no arguments: EYRIE_CUDA (AUTO, ON, OFF), EYRIE_CUDA_ARCHS, CMAKE_GENERATOR.
  'variables': {
    'cuda': '<!(node -p "process.env.EYRIE_CUDA || \'AUTO\'")',
    'archs': '<!(node -p "process.env.EYRIE_CUDA_ARCHS || \'\'")',
    'cores': '<!(node -p "require(\'node:os\').availableParallelism()")',
  },
  'targets': [{
    'target_name': 'eyrie',
    'type': 'none',
    'actions': [
      {
        'action_name': 'cmake_configure',
        'inputs': ['CMakeLists.txt'],
        'outputs': ['<(module_root_dir)/build/gyp/CMakeCache.txt'],
        'action': ['cmake', '-S', '<(module_root_dir)', '-B', '<(module_root_dir)/build/gyp',
          '-DCMAKE_BUILD_TYPE=<(CONFIGURATION_NAME)', '-DEYRIE_CUDA=<(cuda)', '-DEYRIE_CUDA_ARCHS=<(archs)'],
      },
      {
        'action_name': 'cmake_build',
        'inputs': ['<(module_root_dir)/build/gyp/CMakeCache.txt'],
        'outputs': ['<(PRODUCT_DIR)/eyrie.node'],
        'action': ['cmake', '--build', '<(module_root_dir)/build/gyp', '--config', '<(CONFIGURATION_NAME)',
          '--parallel', '<(cores)'],
      },
    ],
  }],
}
