# SPDX-License-Identifier: BSL-1.0
# Install and export.  Nothing that is installed depends on the architecture,
# so the package files go where data goes and any word size may use them.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir "${CMAKE_INSTALL_DATADIR}/cmake/activations")
set(pkgconfig_dir "${CMAKE_INSTALL_DATADIR}/pkgconfig")

set(file_sets)
foreach(set IN LISTS activations_header_sets)
  list(APPEND file_sets
    FILE_SET ${set} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endforeach()
install(TARGETS activations EXPORT activations_targets ${file_sets})
install(EXPORT activations_targets
  FILE activations-targets.cmake
  NAMESPACE activations::
  DESTINATION ${package_dir})

configure_package_config_file(
  cmake/activations-config.cmake.in activations-config.cmake
  INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(activations-config-version.cmake
  COMPATIBILITY SameMinorVersion
  ARCH_INDEPENDENT)

# Relative to where the file itself lies: the prefix may be chosen as late as
# in cmake --install --prefix.
file(RELATIVE_PATH activations_pc_to_include
  "${CMAKE_INSTALL_FULL_DATADIR}/pkgconfig"
  "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
configure_file(cmake/activations.pc.in activations.pc @ONLY)

install(FILES
  "${CMAKE_CURRENT_BINARY_DIR}/activations-config.cmake"
  "${CMAKE_CURRENT_BINARY_DIR}/activations-config-version.cmake"
  DESTINATION ${package_dir})
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/activations.pc"
  DESTINATION ${pkgconfig_dir})
