# Slicer's file packs what was installed. It comes last: what is added after it would not be packed.
get_property(modules GLOBAL PROPERTY SLICER_SCRIPTED_MODULES)
get_property(used GLOBAL PROPERTY SLICER_USED)
if(NOT used OR NOT modules)
  message(FATAL_ERROR "The extension has no module to pack")
endif()
