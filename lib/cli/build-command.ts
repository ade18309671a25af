import { Command } from 'commander';

export function buildCommand(): Command {
  return new Command('build')
    .description(
      'Builds the native addon from the sources in the package (needs CMake and a C++20 compiler).',
    )
    .option('--cuda', 'with the CUDA backend (default: when a GPU and nvcc are here)')
    .option('--no-cuda', 'without it')
    .action(async (flags: { cuda?: boolean }) => {
      const { buildAddon } = await import('./build.ts');
      await buildAddon(flags);
    });
}
