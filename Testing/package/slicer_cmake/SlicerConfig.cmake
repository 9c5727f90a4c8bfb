# What a Slicer build tree offers to a scripted extension, as far as this one uses it. Stricter than Slicer: an unknown
# keyword, a file that is missing, listed twice or outside of its module ends the configuration.
set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/GenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/ExtensionCPack.cmake")
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "lib/GLMAE/qt-scripted-modules")
